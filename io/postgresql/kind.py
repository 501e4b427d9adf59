"""Tables of PostgreSQL as the source and as the target of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("psycopg", "vecferry[postgresql]")

KINDS = (
    Kind(
        "postgresql",
        "reader",
        settings="vecferry.io.postgresql.settings:PostgresSettings",
        logic="vecferry.io.postgresql.source:PostgresSource",
        transform="vecferry.io.postgresql:ReadFromPostgres",
        sources=("postgresql",),
        client=_CLIENT,
        beam_yaml="ReadFromPostgres",
    ),
    Kind(
        "postgresql",
        "writer",
        settings="vecferry.io.postgresql.settings:PostgresWriterSettings",
        logic="vecferry.io.postgresql.target:PostgresTarget",
        transform="vecferry.io.postgresql:WriteToPostgres",
        sources=("postgresql",),
        client=_CLIENT,
        beam_yaml="WriteToPostgres",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "postgresql",
        "vecferry.io.postgresql.settings:PostgresConnection",
        _CLIENT,
        "vecferry.io.postgresql.browse:PostgresBrowser",
    ),
)
