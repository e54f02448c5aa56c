"""The Jobs executor: drives a run on a cluster, which holds all of its state."""
