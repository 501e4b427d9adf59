"""The formats of files: each turns bytes into rows."""
