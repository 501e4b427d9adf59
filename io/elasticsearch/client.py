"""One client of Elasticsearch per run and process, its own, and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vecferry.errors import JobError, redact, shorten
from vecferry.io.common.reach import readable_ca
from vecferry.io.elasticsearch.settings import ElasticsearchConnection
from vecferry.io.search.client import (
    Body,
    SearchClient,
    encoded_key,
    login_header,
    status_error,
    undiscovered,
    unreachable,
)
from vecferry.io.search.settings import SearchSettings
from vecferry.process import run_scope

CONNECT_THREADS = 16
SNIFF_SECONDS = 10.0
JSON = "application/vnd.elasticsearch+json; compatible-with=8"
LINES = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"


def client_of(
    connection: ElasticsearchConnection, settings: SearchSettings, run: str
) -> SearchClient:
    """The client that everything of one run in this process shares."""
    login = (connection.username, connection.password, connection.api_key)
    options = (settings.timeout, settings.compress, settings.discovery, connection.ca_cert)
    key = ("elasticsearch", *connection.hosts, login, options)
    return run_scope(run).get(key, lambda: ElasticsearchClient(connection, settings))


def classify(error: Exception, where: str, hosts: Sequence[str]) -> Exception:
    """What an error of Elasticsearch's client means; the errors of `SearchClient.request`."""
    import elasticsearch

    if isinstance(error, elasticsearch.UnsupportedProductError):
        return JobError(
            f"{where}: this is not Elasticsearch; for OpenSearch use stepType 'opensearch' and a "
            "data source of that type"
        )
    if isinstance(error, elasticsearch.ApiError):
        return status_error(error.meta.status, error.body, error.meta.headers)
    return unreachable(error, where, hosts)


class ElasticsearchClient:
    """Elasticsearch's own client without its retries, which would hide what became of a row."""

    def __init__(self, connection: ElasticsearchConnection, settings: SearchSettings) -> None:
        try:
            from elastic_transport import OrjsonSerializer, TransportError
            from elastic_transport.client_utils import url_to_node_config

            from elasticsearch import Elasticsearch
            from elasticsearch.serializer import NdjsonSerializer
        except ImportError as e:
            raise JobError(
                "the Elasticsearch writer needs its client: pip install 'vecferry[elasticsearch]'"
            ) from e
        self.where, self._hosts = f"Elasticsearch at {connection.shown}", connection.hosts
        options: dict[str, Any] = {}
        if connection.ca_cert is not None:
            options["ca_certs"] = readable_ca(connection.ca_cert, self.where)
        if settings.discovery:
            options |= {"sniff_on_start": True, "sniff_on_node_failure": True}
            options["sniff_timeout"] = SNIFF_SECONDS
        # It would log each answer but 200, and our errors tell of them already.
        logging.getLogger("elastic_transport").setLevel(logging.CRITICAL)
        login = login_header(connection.username, connection.password)
        if connection.api_key is not None:
            login = {"authorization": f"ApiKey {encoded_key(str.__str__(connection.api_key))}"}
        self._login = login  # a node found by discovery has none of its own
        serializers: dict[str, Any] = {
            "application/json": OrjsonSerializer(),
            JSON.split(";")[0]: OrjsonSerializer(),
        }

        class AsItIs(NdjsonSerializer):  # which copies a body twice that is bytes already
            def dumps(self, data: Any) -> bytes:
                return bytes(data)  # does not copy what is bytes already

        serializers |= {LINES.split(";")[0]: AsItIs()}
        try:
            self._client = Elasticsearch(
                [url_to_node_config(h).replace(headers=login) for h in connection.hosts],
                request_timeout=settings.timeout / 1000,
                http_compress=settings.compress,
                connections_per_node=CONNECT_THREADS,
                serializers=serializers,
                max_retries=0,
                retry_on_timeout=False,
                **options,
            )
        except (OSError, ValueError) as e:
            raise JobError(f"{self.where}: {redact(shorten(e))}") from None
        except TransportError as e:
            plain = settings.model_copy(update={"discovery": False})
            raise undiscovered(ElasticsearchClient(connection, plain), e) from None

    def request(
        self, method: str, path: str, body: Body = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """See `SearchClient`."""
        from elasticsearch import ApiError, TransportError, UnsupportedProductError

        headers = {"accept": JSON, **self._login}
        if body is not None:
            headers["content-type"] = LINES if isinstance(body, bytes) else JSON
        try:
            answer = self._client.perform_request(
                method, path, params=params, headers=headers, body=body
            )
        except (ApiError, TransportError, UnsupportedProductError) as e:
            raise classify(e, self.where, self._hosts) from None
        return answer.body

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()
