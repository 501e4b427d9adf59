"""Indices of OpenSearch, written.

Beside the usual modules: `definitions`, the pipelines, models and connectors that a cluster holds.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.opensearch.settings import OpenSearchConnection as OpenSearchConnection
    from vecferry.io.opensearch.settings import OpenSearchSettings as OpenSearchSettings
    from vecferry.io.opensearch.transform import WriteToOpenSearch as WriteToOpenSearch

__getattr__ = hands_on(
    __name__,
    {
        "WriteToOpenSearch": "transform",
        "OpenSearchConnection": "settings",
        "OpenSearchSettings": "settings",
    },
)
