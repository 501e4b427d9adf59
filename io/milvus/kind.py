"""Collections of Milvus as the target of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("pymilvus", "vecferry[milvus]")

KINDS = (
    Kind(
        "milvus",
        "writer",
        settings="vecferry.io.milvus.settings:MilvusSettings",
        logic="vecferry.io.milvus.target:MilvusTarget",
        transform="vecferry.io.milvus:WriteToMilvus",
        sources=("milvus",),
        client=_CLIENT,
        beam_yaml="WriteToMilvus",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "milvus",
        "vecferry.io.milvus.settings:MilvusConnection",
        _CLIENT,
        "vecferry.io.milvus.browse:MilvusBrowser",
    ),
)
