"""Indices of Elasticsearch, written.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.elasticsearch.settings import (
        ElasticsearchConnection as ElasticsearchConnection,
    )
    from vecferry.io.elasticsearch.settings import ElasticsearchSettings as ElasticsearchSettings
    from vecferry.io.elasticsearch.transform import WriteToElasticsearch as WriteToElasticsearch

__getattr__ = hands_on(
    __name__,
    {
        "WriteToElasticsearch": "transform",
        "ElasticsearchConnection": "settings",
        "ElasticsearchSettings": "settings",
    },
)
