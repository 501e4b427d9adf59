"""Indices of OpenSearch as the target of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("opensearchpy", "vecferry[opensearch]")

KINDS = (
    Kind(
        "opensearch",
        "writer",
        settings="vecferry.io.opensearch.settings:OpenSearchSettings",
        logic="vecferry.io.opensearch.target:OpenSearchTarget",
        transform="vecferry.io.opensearch:WriteToOpenSearch",
        sources=("opensearch",),
        client=_CLIENT,
        beam_yaml="WriteToOpenSearch",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "opensearch",
        "vecferry.io.opensearch.settings:OpenSearchConnection",
        _CLIENT,
        "vecferry.io.opensearch.browse:OpenSearchBrowser",
    ),
)
