"""Reading a table of a database: what MySQL and PostgreSQL share.

Beside the modules that every connector has:

- `connection`: where a database is, and how the connection is kept private
- `database`: what a database gives to a reader
- `plan`: how tables are cut into ranges
"""
