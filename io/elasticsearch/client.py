"""One client of Elasticsearch per run and process, its own, and what its errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecferry.errors import JobError
from vecferry.io.search.client import Body, LibraryClient, status_error, unreachable
from vecferry.io.search.settings import SearchConnection, SearchSettings

SNIFF_SECONDS = 10.0
JSON = "application/vnd.elasticsearch+json; compatible-with=8"
LINES = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"


class ElasticsearchClient(LibraryClient):
    """See `LibraryClient`."""

    store = "Elasticsearch"
    extra = "elasticsearch"
    logger = "elastic_transport"

    def errors(self) -> tuple[type[Exception], ...]:
        """See `LibraryClient`."""
        from elasticsearch import ApiError, TransportError, UnsupportedProductError

        return ApiError, TransportError, UnsupportedProductError

    def _opened(
        self, connection: SearchConnection, settings: SearchSettings, options: dict[str, Any]
    ) -> Any:
        """See `LibraryClient`."""
        from elastic_transport import OrjsonSerializer
        from elastic_transport.client_utils import url_to_node_config

        from elasticsearch import Elasticsearch
        from elasticsearch.serializer import NdjsonSerializer

        class AsItIs(NdjsonSerializer):  # which copies a body twice that is bytes already
            def dumps(self, data: Any) -> bytes:
                return bytes(data)  # does not copy what is bytes already

        if settings.discovery:
            options |= {"sniff_on_start": True, "sniff_on_node_failure": True}
            options["sniff_timeout"] = SNIFF_SECONDS
        self._login = connection.login  # a node found by discovery has none of its own
        return Elasticsearch(
            [url_to_node_config(h).replace(headers=self._login) for h in connection.hosts],
            request_timeout=settings.timeout / 1000,
            http_compress=settings.compress,
            connections_per_node=self.threads,
            serializers={
                "application/json": OrjsonSerializer(),
                JSON.split(";")[0]: OrjsonSerializer(),
                LINES.split(";")[0]: AsItIs(),
            },
            max_retries=0,
            retry_on_timeout=False,
            **options,
        )

    def _answer(self, method: str, path: str, body: Body, params: Mapping[str, str] | None) -> Any:
        """See `LibraryClient`."""
        headers = {"accept": JSON, **self._login}
        if body is not None:
            headers["content-type"] = LINES if isinstance(body, bytes) else JSON
        return (
            self.client.options(request_timeout=self.seconds(method))
            .perform_request(method, path, params=params, headers=headers, body=body)
            .body
        )

    def classify(self, error: Exception) -> Exception:
        """See `LibraryClient`."""
        import elasticsearch

        if isinstance(error, elasticsearch.UnsupportedProductError):
            return JobError(
                f"{self.where}: this is not Elasticsearch; for OpenSearch use stepType "
                "'opensearch' and a data source of that type"
            )
        if isinstance(error, elasticsearch.ApiError):
            return status_error(error.meta.status, error.body, error.meta.headers)
        return unreachable(error, self.where, self.hosts)
