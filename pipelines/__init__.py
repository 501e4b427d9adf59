"""What runs: job files, graphs, the launcher and the command line."""
