"""An index of Elasticsearch as the target of a job."""

from __future__ import annotations

from vecferry.io.elasticsearch_client import client_of
from vecferry.io.elasticsearch_dialect import ElasticsearchDialect
from vecferry.io.search_client import SearchClient
from vecferry.io.search_target import SearchTarget


class ElasticsearchTarget(SearchTarget):
    """See `SearchTarget`."""

    dialect = ElasticsearchDialect()

    def client(self) -> SearchClient:
        """See `SearchTarget`."""
        return client_of(self.connection, self.settings, self.context.run)
