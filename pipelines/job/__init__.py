"""The job file: read, filled, checked, resolved to steps."""
