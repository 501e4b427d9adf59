"""A proxy before the cluster that refuses large requests costs little, whatever it answers."""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from tests.io.search.support import SERVERS, Store, one_after_the_other, rows, write

pytestmark = [pytest.mark.service, pytest.mark.slow]

MOST = 1 << 20
"""Bytes of a request that the proxy lets through."""
REQUEST = 8 << 20
"""Bytes of a full request of the writer."""
HTML = b"<html><head><title>413 Request Entity Too Large</title></head></html>"


@dataclass
class Proxy:
    """What a proxy saw; `how` says what it does with a request that is too large."""

    target: str
    how: str
    passed: int = 0
    in_vain: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                length = int(self.headers.get("content-length", 0))
                if length > MOST and proxy.how == "reset":
                    read = len(self.rfile.read(256 << 10))
                    with proxy.lock:
                        proxy.in_vain += read
                    no_wait = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_wait)
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                with proxy.lock:
                    proxy.passed += length * (length <= MOST)
                    proxy.in_vain += length * (length > MOST)
                if length > MOST:
                    self._answer(413, {"content-type": "text/html"}, proxy.page)
                    return
                kept = ("content-type", "accept", "authorization")
                names = {n: v for n, v in self.headers.items() if n.lower() in kept}
                got = requests.request(
                    self.command, proxy.target + self.path, data=body, headers=names, timeout=120
                )
                given = {n: got.headers[n] for n in ("content-type",) if n in got.headers}
                self._answer(
                    got.status_code, given | {"X-Elastic-Product": "Elasticsearch"}, got.content
                )

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _pass

            def _answer(self, status: int, names: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in names.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @property
    def page(self) -> bytes:
        return HTML if self.how == "html" else b""


@contextlib.contextmanager
def before(target: str, how: str) -> Iterator[tuple[str, Proxy]]:
    """The address of a proxy before `target`, and what it sees."""
    proxy = Proxy(target, how)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), proxy.handler())
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", proxy
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=one_after_the_other(SERVERS), scope="module")
def store(request):
    store = Store(request.param)
    yield store
    store.close()


@pytest.mark.in_turn("store", "how", "most")
@pytest.mark.parametrize(("how", "most"), [("empty", 2), ("html", 2), ("reset", 6)])
def test_a_proxy_that_takes_little_costs_the_bytes_of_two_requests(store, how, most):
    """And of a few more if it breaks connections off in place of an answer; all is written."""
    with before(store.server.url, how) as (url, proxy):
        target = store.target(connection=store.connected(endpoint=url), batchSize=10_000)
        batch = [{**row, "text": "x" * 3000} for row in rows(6000)]
        written, rejects, counts = write(target, batch)
        first = proxy.in_vain
        write(target, batch)  # another bundle of the same run
    assert (len(written), rejects, target.row_count()) == (6000, [], 6000)
    assert 0 < first <= most * REQUEST
    assert proxy.in_vain == first or how == "reset"  # which may have been an outage, at first
    assert counts["write-requests"] <= 12 + proxy.passed // (MOST // 4)
