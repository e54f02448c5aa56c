"""What is asked: studies, trials, probes and prompts. Knows nothing of servers or models."""
