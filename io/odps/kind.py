"""Tables of MaxCompute (ODPS) as the source of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("odps", "vecferry[odps]")

KINDS = (
    Kind(
        "odps",
        "reader",
        settings="vecferry.io.odps.settings:OdpsSettings",
        logic="vecferry.io.odps.source:OdpsSource",
        transform="vecferry.io.odps:ReadFromOdps",
        sources=("odps",),
        client=_CLIENT,
        beam_yaml="ReadFromOdps",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "odps",
        "vecferry.io.odps.settings:OdpsConnection",
        _CLIENT,
        "vecferry.io.odps.browse:OdpsBrowser",
    ),
)
