"""Which language models exist, and where their weights come from. Knows nothing of servers."""
