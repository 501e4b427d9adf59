"""Vectors that are known already, in memory, SQLite or Redis."""
