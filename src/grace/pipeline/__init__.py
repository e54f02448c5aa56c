"""The stages of an experiment and their graph: the one plan that all executors run."""
