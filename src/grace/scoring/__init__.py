"""From answers to distributions: token seams, tries, log-probabilities. Pure."""
