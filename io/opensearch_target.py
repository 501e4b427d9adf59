"""An index of OpenSearch as the target of a job."""

from __future__ import annotations

from vecferry.io.opensearch_client import client_of
from vecferry.io.opensearch_dialect import OpenSearchDialect
from vecferry.io.opensearch_settings import OpenSearchSettings
from vecferry.io.search_client import SearchClient
from vecferry.io.search_index import IndexInfo
from vecferry.io.search_target import SearchTarget


class OpenSearchTarget(SearchTarget):
    """See `SearchTarget`."""

    settings: OpenSearchSettings
    dialect = OpenSearchDialect()

    def client(self) -> SearchClient:
        """See `SearchTarget`."""
        return client_of(self.connection, self.settings, self.context.run)

    def pipeline(self, info: IndexInfo) -> str | None:
        """The job's own; without one `_none`, where the job writes vectors.

        An index's own pipeline may be there to embed texts on the server, and would overwrite them.
        """
        settings = self.settings
        named = settings.sources() or info.fields
        writes = any(f.is_vector for n, f in info.fields.items() if n in named)
        return settings.pipeline or ("_none" if writes else None)
