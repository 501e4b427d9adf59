"""What a run has in each process: state, objects made once, and a channel to the launcher."""
