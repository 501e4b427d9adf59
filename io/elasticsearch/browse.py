"""What a cluster of Elasticsearch holds; see `vecferry.browse`."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.elasticsearch.client import ElasticsearchClient
from vecferry.io.elasticsearch.settings import ElasticsearchSettings
from vecferry.io.search.browse import SearchBrowser
from vecferry.io.search.client import LibraryClient
from vecferry.io.search.settings import SearchSettings


class ElasticsearchBrowser(SearchBrowser):
    """Indices and aliases."""

    settings_class: ClassVar[type[SearchSettings]] = ElasticsearchSettings
    client_class: ClassVar[type[LibraryClient]] = ElasticsearchClient
