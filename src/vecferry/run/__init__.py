"""What a run has in each process: its state, what it has made, its word with the launcher."""
