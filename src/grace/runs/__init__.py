"""What is kept of a run: its folder, tables, identity and manifest."""
