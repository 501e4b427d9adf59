"""One client of OpenSearch per run and process, its own, and what its errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from vecferry.errors import TransientError, redact, shorten
from vecferry.io.search.client import Body, LibraryClient, status_error, unreachable
from vecferry.io.search.settings import SearchConnection, SearchSettings


class OpenSearchClient(LibraryClient):
    """See `LibraryClient`."""

    store = "OpenSearch"
    extra = "opensearch"
    logger = "opensearch"

    def errors(self) -> tuple[type[Exception], ...]:
        """See `LibraryClient`."""
        from opensearchpy import OpenSearchException

        return (OpenSearchException,)

    def _opened(
        self, connection: SearchConnection, settings: SearchSettings, options: dict[str, Any]
    ) -> Any:
        """See `LibraryClient`."""
        from opensearchpy import OpenSearch

        if settings.discovery:
            options |= {"sniff_on_start": True, "sniff_on_connection_fail": True}
            # A node that is found is called as the others are; its address does not say how.
            options["use_ssl"] = all(host.startswith("https:") for host in connection.hosts)
        return OpenSearch(
            connection.hosts,
            headers=connection.login,
            timeout=settings.timeout / 1000,
            http_compress=settings.compress,
            pool_maxsize=self.threads,
            max_retries=0,
            retry_on_timeout=False,
            retry_on_status=(),
            **options,
        )

    def _answer(self, method: str, path: str, body: Body, params: Mapping[str, str] | None) -> Any:
        """See `LibraryClient`."""
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        headers = {"content-type": kind} if body is not None else {}
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        return self.client.transport.perform_request(
            method,
            path,
            params={**(params or {}), "request_timeout": self.seconds(method)},
            headers=headers,
            body=data,
        )

    def classify(self, error: Exception) -> Exception:
        """See `LibraryClient`."""
        from opensearchpy import exceptions

        if isinstance(error, exceptions.ConnectionError):  # its status is not a number
            return unreachable(error, self.where, self.hosts)
        if isinstance(error, exceptions.SerializationError):
            return TransientError(f"its answer is not JSON: {redact(shorten(error, 300))}")
        if isinstance(error, exceptions.TransportError):
            told = error.info if isinstance(error.info, dict) and error.info.get("error") else None
            return status_error(int(error.status_code), told or error.error, {})
        return error
