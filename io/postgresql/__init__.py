"""Tables of PostgreSQL, read and written, vectors of pgvector included.

Beside the modules that every connector has:

- `dialect`: where servers of the protocol differ
- `encode`: a value as a field
- `rows`: rows as records and blocks
- `statements`: SQL and its parameters
- `holdings`: what stands in a table, read and removed
- `building`: indexes that a load left for later

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.postgresql.settings import PostgresConnection as PostgresConnection
    from vecferry.io.postgresql.settings import PostgresSettings as PostgresSettings
    from vecferry.io.postgresql.settings import PostgresWriterSettings as PostgresWriterSettings
    from vecferry.io.postgresql.transform import ReadFromPostgres as ReadFromPostgres
    from vecferry.io.postgresql.transform import WriteToPostgres as WriteToPostgres

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromPostgres": "transform",
        "WriteToPostgres": "transform",
        "PostgresConnection": "settings",
        "PostgresSettings": "settings",
        "PostgresWriterSettings": "settings",
    },
)
