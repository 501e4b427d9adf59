"""What a cluster of OpenSearch holds; see `vecferry.browse`."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.opensearch.client import OpenSearchClient
from vecferry.io.opensearch.settings import OpenSearchSettings
from vecferry.io.search.browse import SearchBrowser
from vecferry.io.search.client import LibraryClient
from vecferry.io.search.settings import SearchSettings


class OpenSearchBrowser(SearchBrowser):
    """Indices and aliases."""

    settings_class: ClassVar[type[SearchSettings]] = OpenSearchSettings
    client_class: ClassVar[type[LibraryClient]] = OpenSearchClient
