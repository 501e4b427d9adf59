"""Reading a table of a database: what MySQL and PostgreSQL share."""
