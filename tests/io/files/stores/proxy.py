"""A proxy before a store's server that breaks answers as a test says."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Fault = Callable[["_Handler"], bool]
"""Does to one request what a fault does; False: the request is answered after all."""


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """An answer of the proxy's own; in the names of headers ``_`` stands for ``-``."""

    def fault(handler: _Handler) -> bool:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Type", "application/xml")
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(b"" if handler.command == "HEAD" else body)
        return True

    return fault


def reset(handler: _Handler) -> bool:
    """The connection is closed without an answer."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True
    return True


def cut(handler: _Handler) -> bool:
    """Half of the answer's body comes."""
    handler.cut = True
    return False


def hang(handler: _Handler) -> bool:
    """Nothing comes, until the proxy is closed."""
    handler.server.proxy.closing.wait(30)
    handler.close_connection = True
    return True


class Proxy:
    """Passes requests on to `upstream`; the next GET requests of files meet the `faults` first."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.faults: list[Fault] = []
        self.only = ""  # meet faults where the path or query holds this
        self.seen: list[str] = []
        self.met = 0
        self.closing = threading.Event()
        self.data_node = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, path: str) -> Fault | None:
        """The fault that a request meets."""
        self.seen.append(path)
        if not self.faults or self.only not in path:
            return None
        self.met += 1
        return self.faults.pop(0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any
    cut = False

    def do_GET(self) -> None:
        proxy = self.server.proxy
        fault = proxy.next_fault(self.path)
        if fault is not None and fault(self):
            return
        self._pass_on(proxy)

    do_HEAD = do_GET

    def _pass_on(self, proxy: Proxy) -> None:
        to_data_node = "namenoderpcaddress=" in self.path
        upstream = http.client.HTTPConnection(
            proxy.data_node if to_data_node else proxy.upstream, timeout=30
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the host among them: it is signed
                upstream.putheader(name, value)
            upstream.endheaders()
            answer = upstream.getresponse()
            body = answer.read()
        except OSError:
            reset(self)
            return
        finally:
            upstream.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() == "location":
                proxy.data_node = urlsplit(value).netloc
                value = value.replace(f"http://{proxy.data_node}", proxy.url)
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.cut:
            self.cut, body, self.close_connection = False, body[: len(body) // 2], True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
