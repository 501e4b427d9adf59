"""What OSS's S3 API does otherwise than S3 when objects are created, before an S3 server.

OSS refuses ``If-None-Match`` with 501, and has ``x-oss-forbid-overwrite`` in its place.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.services.server import free_port, running
from tests.services.versitygw import REGION, Versitygw

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


class _Gateway(Versitygw):
    """A server that takes the front's address for its own, as requests are signed for it."""

    name = "versitygw-oss"
    front_port = 0

    def command(self) -> list[str]:
        """Another virtual domain."""
        given = super().command()
        given[given.index("--virtual-domain") + 1] = f"localhost:{self.front_port}"
        return given


class OssFront:
    """A server that speaks as OSS does; the bucket is a virtual host."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), _Handler)
        self._server.daemon_threads = True
        self.url = f"http://localhost:{self._server.server_port}"
        self.region = REGION
        gateway = type("Gateway", (_Gateway,), {"front_port": self._server.server_port})
        running(Versitygw)  # skips where there is none
        self._gateway = gateway()
        self._gateway.install()
        self._gateway.prepare()
        self._server.upstream = self._gateway.port  # type: ignore[attr-defined]

    def __enter__(self) -> OssFront:
        self._gateway.start()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._gateway.stop()
        self._gateway.remove()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("If-None-Match"):
            self._answer(501, "NotImplemented", "A header you provided implies functionality …")
            return
        more = {}
        if self.headers.get("x-oss-forbid-overwrite") == "true":
            more["If-None-Match"] = "*"
        status, headers, found = self._upstream(body, more)
        if status == 412:
            self._answer(409, "FileAlreadyExists", "The object you specified already exists …")
        else:
            self._send(status, headers, found)

    def do_GET(self) -> None:
        self._send(*self._upstream(b"", {}))

    do_HEAD = do_DELETE = do_GET

    def _upstream(
        self, body: bytes, more: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in [*self.headers.items(), *more.items()]:
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, code: str, message: str) -> None:
        body = _ERROR.format(code, message).encode()
        self._send(status, [("Content-Type", "application/xml")], body)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def log_message(self, *_: object) -> None:
        pass
