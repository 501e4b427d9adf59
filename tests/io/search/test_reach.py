"""A cluster that can't be spoken with is told in words that say what to correct."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.services.certificates import make_certificates
from vecferry.errors import JobError, TransientError
from vecferry.io.elasticsearch import ElasticsearchConnection, ElasticsearchSettings
from vecferry.io.elasticsearch.client import ElasticsearchClient
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.client import OpenSearchClient
from vecferry.io.search.client import status_error


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(certificates: Path | None = None) -> Iterator[str]:
    """``127.0.0.1:port`` of a server that answers all; by TLS where it has certificates."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(params=["elasticsearch", "opensearch"])
def ask(request):
    """Asks the server at an endpoint something, by the client of either store."""

    def call(endpoint: str, ca: Path | None = None, *, discovery: bool = False) -> object:
        given = {"endpoint": endpoint, "caCert": None if ca is None else str(ca)}
        job = {"index": "docs", "timeout": 120_000, "discovery": discovery}
        if request.param == "elasticsearch":
            connection = ElasticsearchConnection.model_validate(given)
            client = ElasticsearchClient(connection, ElasticsearchSettings.model_validate(job))
        else:
            there = OpenSearchConnection.model_validate(given)
            client = OpenSearchClient(there, OpenSearchSettings.model_validate(job))
        return client.request("GET", "/")

    return call


@pytest.mark.slow
@pytest.mark.parametrize("discovery", [False, True])
def test_https_to_a_server_of_plain_http_says_so(ask, discovery) -> None:
    """And is not waited for: it won't speak TLS in ten minutes either."""
    with serving() as place, pytest.raises(JobError, match="speaks no TLS: write http://"):
        ask(f"https://{place}", discovery=discovery)


@pytest.mark.slow
@pytest.mark.parametrize("discovery", [False, True])
def test_http_to_a_server_of_tls_says_so(ask, certificates, discovery) -> None:
    """Such a server only breaks the connection off; whether it speaks TLS is tried."""
    with (
        serving(certificates) as place,
        pytest.raises(JobError, match="speaks TLS: write https://"),
    ):
        ask(f"http://{place}", discovery=discovery)


@pytest.mark.slow
def test_a_certificate_that_is_not_trusted_says_why_and_what_to_give(ask, certificates) -> None:
    """Signed by an authority that is unknown or another one; made out for another name."""
    with serving(certificates) as place:
        for ca in (None, certificates / "other-ca.pem"):
            with pytest.raises(JobError, match=r"not trusted: .*issuer.* as caCert"):
                ask(f"https://{place}", ca)
        named = f"https://localhost:{place.partition(':')[2]}"
        with pytest.raises(JobError, match=r"not valid for 'localhost'.*name the host"):
            ask(named, certificates / "ca.pem")
        assert ask(f"https://{place}", certificates / "ca.pem") == {}


def test_a_server_that_is_away_is_waited_for_whatever_it_speaks(ask) -> None:
    """Refused, broken off without a word, or of a name that nobody knows: all may pass."""
    with pytest.raises(TransientError, match="Connection refused"):
        ask("https://127.0.0.1:9")
    with pytest.raises(TransientError, match="can't be reached: Name or service not known"):
        ask("http://no-such-host.invalid:9200")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def break_off() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=break_off, daemon=True).start()
        with pytest.raises(TransientError, match="can't be reached"):
            ask(f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)


DEEP = orjson.loads(b"[" * 1000 + b"]" * 1000)


@pytest.mark.parametrize(
    "body",
    [
        {"error": DEEP},
        {"error": {"type": DEEP}},
        {"error": {"reason": DEEP}},
        {"error": {"caused_by": {"reason": DEEP}}},
        {"other": DEEP},
        DEEP,
    ],
    ids=["error", "type", "reason", "cause", "another field", "the whole"],
)
def test_a_fault_that_is_nested_deep_is_told_in_few_words(body: object) -> None:
    """Whatever part of the answer it is."""
    told = str(status_error(400, body, {}))
    assert "nested too deep to show" in told
    assert told.endswith("(status 400)")
