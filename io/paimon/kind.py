"""Tables of Paimon as the source of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("pypaimon", "vecferry[paimon]")

KINDS = (
    Kind(
        "paimon",
        "reader",
        settings="vecferry.io.paimon.settings:PaimonSettings",
        logic="vecferry.io.paimon.changes:PaimonChanges",
        transform="vecferry.io.paimon:ReadFromPaimon",
        sources=("paimon",),
        client=_CLIENT,
        beam_yaml="ReadFromPaimon",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "paimon",
        "vecferry.io.paimon.settings:PaimonConnection",
        _CLIENT,
        "vecferry.io.paimon.browse:PaimonBrowser",
    ),
)
