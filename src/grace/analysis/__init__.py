"""What tables say: summaries by condition. Later: contrasts, human and RSA comparison."""
