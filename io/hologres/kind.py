"""Tables of Hologres as the target of a job, or of the PostgreSQL that stands in for it."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("psycopg", "vecferry[postgresql]")

KINDS = (
    Kind(
        "hologres",
        "writer",
        settings="vecferry.io.hologres.settings:HologresSettings",
        logic="vecferry.io.hologres.target:HologresTarget",
        transform="vecferry.io.hologres:WriteToHologres",
        sources=("hologres", "postgresql"),
        client=_CLIENT,
        beam_yaml="WriteToHologres",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "hologres",
        "vecferry.io.hologres.settings:HologresConnection",
        _CLIENT,
        "vecferry.io.hologres.browse:HologresBrowser",
    ),
)
