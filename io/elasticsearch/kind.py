"""Indices of Elasticsearch as the target of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("elasticsearch", "vecferry[elasticsearch]")

KINDS = (
    Kind(
        "elasticsearch",
        "writer",
        settings="vecferry.io.elasticsearch.settings:ElasticsearchSettings",
        logic="vecferry.io.elasticsearch.target:ElasticsearchTarget",
        transform="vecferry.io.elasticsearch:WriteToElasticsearch",
        sources=("elasticsearch",),
        client=_CLIENT,
        beam_yaml="WriteToElasticsearch",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "elasticsearch",
        "vecferry.io.elasticsearch.settings:ElasticsearchConnection",
        _CLIENT,
        "vecferry.io.elasticsearch.browse:ElasticsearchBrowser",
    ),
)
