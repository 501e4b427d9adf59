"""One client of OpenSearch per run and process, its own, and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from vecferry.errors import JobError, TransientError, redact, shorten
from vecferry.io.common.reach import readable_ca
from vecferry.io.opensearch.settings import OpenSearchConnection
from vecferry.io.search.client import (
    Body,
    SearchClient,
    login_header,
    status_error,
    undiscovered,
    unreachable,
)
from vecferry.io.search.settings import SearchSettings
from vecferry.process import run_scope

CONNECT_THREADS = 16


def client_of(connection: OpenSearchConnection, settings: SearchSettings, run: str) -> SearchClient:
    """The client that everything of one run in this process shares."""
    login = (connection.username, connection.password)
    options = (settings.timeout, settings.compress, settings.discovery, connection.ca_cert)
    key = ("opensearch", *connection.hosts, login, options)
    return run_scope(run).get(key, lambda: OpenSearchClient(connection, settings))


def classify(error: Exception, where: str, hosts: Sequence[str]) -> Exception:
    """What an error of OpenSearch's client means; the errors of `SearchClient.request`."""
    from opensearchpy import exceptions

    if isinstance(error, exceptions.ConnectionError):  # its status is not a number
        return unreachable(error, where, hosts)
    if isinstance(error, exceptions.SerializationError):
        return TransientError(f"its answer is not JSON: {redact(shorten(error, 300))}")
    if isinstance(error, exceptions.TransportError):
        told = error.info if isinstance(error.info, dict) and error.info.get("error") else None
        return status_error(int(error.status_code), told or error.error, {})
    return error


class OpenSearchClient:
    """OpenSearch's own client without its retries, which would hide what became of a row."""

    def __init__(self, connection: OpenSearchConnection, settings: SearchSettings) -> None:
        try:
            from opensearchpy import OpenSearch, OpenSearchException
        except ImportError as e:
            raise JobError(
                "the OpenSearch writer needs its client: pip install 'vecferry[opensearch]'"
            ) from e
        self.where, self._hosts = f"OpenSearch at {connection.shown}", connection.hosts
        options: dict[str, Any] = {}
        if connection.ca_cert is not None:
            options["ca_certs"] = readable_ca(connection.ca_cert, self.where)
        if settings.discovery:
            options |= {"sniff_on_start": True, "sniff_on_connection_fail": True}
            # A node that is found is called as the others are; its address does not say how.
            options["use_ssl"] = all(host.startswith("https:") for host in connection.hosts)
        # It would log each answer but 200, and our errors tell of them already.
        logging.getLogger("opensearch").setLevel(logging.CRITICAL)
        try:
            self._client = OpenSearch(
                connection.hosts,
                headers=login_header(connection.username, connection.password),
                timeout=settings.timeout / 1000,
                http_compress=settings.compress,
                pool_maxsize=CONNECT_THREADS,
                max_retries=0,
                retry_on_timeout=False,
                retry_on_status=(),
                **options,
            )
        except (OSError, ValueError) as e:
            raise JobError(f"{self.where}: {redact(shorten(e))}") from None
        except OpenSearchException as e:
            plain = settings.model_copy(update={"discovery": False})
            raise undiscovered(OpenSearchClient(connection, plain), e) from None

    def request(
        self, method: str, path: str, body: Body = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """See `SearchClient`."""
        from opensearchpy import OpenSearchException

        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        headers = {"content-type": kind} if body is not None else {}
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        try:
            return self._client.transport.perform_request(
                method, path, params=params, headers=headers, body=data
            )
        except OpenSearchException as e:
            raise classify(e, self.where, self._hosts) from None

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()
