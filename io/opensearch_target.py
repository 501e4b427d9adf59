"""An index of OpenSearch as the target of a job."""

from __future__ import annotations

from vecferry.io.opensearch_client import client_of
from vecferry.io.opensearch_dialect import OpenSearchDialect
from vecferry.io.opensearch_settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.search_client import SearchClient
from vecferry.io.search_target import SearchTarget
from vecferry.steps import StepContext


class OpenSearchTarget(SearchTarget):
    """See `SearchTarget`. Without a word of the job an index's own pipeline is bypassed.

    Such a pipeline is there to embed texts on the server, and would overwrite our vectors.
    """

    dialect = OpenSearchDialect()

    def __init__(
        self, settings: OpenSearchSettings, connection: OpenSearchConnection, context: StepContext
    ) -> None:
        super().__init__(settings, connection, context)
        self.pipeline = settings.pipeline or "_none"

    def client(self) -> SearchClient:
        """See `SearchTarget`."""
        return client_of(self.connection, self.settings, self.context.run)
