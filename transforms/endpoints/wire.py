"""POSTs to one host over connections that stay open: http.client, with bounds and a deadline.

A call costs half of what it does through urllib3, which decides whether one process keeps an
endpoint full (docs/performance.md). What a server may send is bounded: the number and length of
headers by http.client, the body, zipped or not, by `MAX_BODY`, all of it by `timeout` seconds.
"""

from __future__ import annotations

import base64
import io
import os
import select
import ssl
import threading
import time
import zlib
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from vecferry.errors import JobError

MAX_BODY = 256 << 20
PIECE = 1 << 20
BUFFER = 1 << 16
CONNECT_SECONDS = 10.0


class WireError(OSError):
    """The server's answer ended early, is no HTTP or too large."""


@dataclass(slots=True)
class Response:
    """An answer; the case of header names does not matter."""

    status: int
    headers: Any
    data: bytes | bytearray


class Wire:
    """Connections to the host of `url`, for many threads; TLS is verified, nothing is redirected.

    The proxy is the one that the environment names for it. Failures are OSErrors; a request is
    sent once, whatever becomes of it. Raises JobError where the environment names authorities that
    can't be read.
    """

    def __init__(self, url: str, headers: dict[str, str], *, connections: int, timeout: float):
        parts = urlsplit(url)
        self.host, self.tls = parts.hostname or "", parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self._timeout, self._connections = timeout, connections
        proxy = None if proxy_bypass(self.host) else getproxies().get(parts.scheme)
        self.proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Host": parts.netloc, "Accept-Encoding": "gzip", **headers}
        if self.proxy and not self.tls:
            self._target = f"http://{parts.netloc}{self._target}"
            self._headers |= self._proxy_key()
        for name, value in self._headers.items():  # http.client would show the value
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"header {name} holds a line break or another odd character")
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._tls = _authorities() if self.tls else None

    def post(self, body: bytes) -> Response:
        """Sends `body`, gives the answer."""
        until = Until(time.monotonic() + self._timeout)
        connection = self._take()
        connection.response_class = until.response  # type: ignore[assignment]
        try:
            connection.hold()
            connection.request("POST", self._target, body, self._headers)
            connection.release()
            with connection.getresponse() as answer:
                data = _body(answer)
        except HTTPException as e:
            connection.close()
            raise WireError(f"no whole HTTP answer: {type(e).__name__}: {e}") from e
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        if data and "gzip" in answer.headers.get("Content-Encoding", ""):
            data = _unzip(data)
        return Response(answer.status, answer.headers, data)

    def connect(self) -> _Connection:
        """A new connection, past the proxy and TLS."""
        where = (self.host, self.port)
        if self.proxy:
            where = (self.proxy.hostname or "", self.proxy.port or 80)
        limit = min(CONNECT_SECONDS, self._timeout)
        connection = _Connection(*where, timeout=limit)
        if self.tls:
            connection = _SecureConnection(*where, timeout=limit, context=self._tls)
            if self.proxy:
                connection.set_tunnel(self.host, self.port, self._proxy_key())
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout)
        except HTTPException as e:
            connection.close()
            raise WireError(f"no HTTP answer of the proxy: {type(e).__name__}: {e}") from e
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Closes the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> _Connection:
        """A connection on which nothing has come: one that the server closed is not used again."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if not poll.poll(0):
                connection.sock.settimeout(self._timeout)
                return connection
            connection.close()
        return self.connect()

    def _keep(self, connection: _Connection) -> None:
        if connection.sock is not None:  # the answer did not say that it ends with it
            with self._lock:
                if len(self._idle) < self._connections:
                    self._idle.append(connection)
                    return
        connection.close()

    def _proxy_key(self) -> dict[str, str]:
        if not self.proxy or not self.proxy.username:
            return {}
        pair = f"{unquote(self.proxy.username)}:{unquote(self.proxy.password or '')}"
        return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _authorities() -> ssl.SSLContext:
    """Who signs certificates: the file that the environment names, else the system's own."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        if bundle := os.environ.get(name):
            try:
                return ssl.create_default_context(cafile=bundle)
            except OSError as e:
                raise JobError(
                    f"{name} names {bundle}, which is no file of certificates ({e}): "
                    "mend or unset it"
                ) from e
    return ssl.create_default_context()


class _Connection(HTTPConnection):
    """Sends head and body in one piece; two cost the server and us a wake-up more."""

    _held: list[Any] | None = None

    def hold(self) -> None:
        self._held = []

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def release(self) -> None:
        held, self._held = self._held, None
        super().send(b"".join(held or ()))


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class Until(io.RawIOBase):
    """What a socket receives, until a deadline; a socket's own timeout begins anew each time."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def response(self, sock: Any, **how: Any) -> HTTPResponse:
        """What http.client reads an answer with."""
        self._sock = sock
        return HTTPResponse(self, **how)  # type: ignore[arg-type]

    def makefile(self, mode: str) -> io.BufferedReader:
        """All that HTTPResponse asks of a socket."""
        # A file of its own keeps the socket open when the connection lets go of it.
        self._file = self._sock.makefile(mode, buffering=0)
        return io.BufferedReader(self, BUFFER)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out while reading the answer")
        self._sock.settimeout(left)
        return int(self._file.readinto(buffer))


def _body(answer: HTTPResponse) -> bytes | bytearray:
    if answer.status < 200:
        raise WireError(f"the answer has the status {answer.status}, which is none")
    if answer.length is not None:
        if answer.length > MAX_BODY:
            raise WireError(f"a body of {answer.length} bytes, {MAX_BODY} at most are read")
        return answer.read()
    data = bytearray()
    while piece := answer.read(PIECE):
        data += piece
        if len(data) > MAX_BODY:
            raise WireError(f"a body of more than {MAX_BODY} bytes")
    return data


def _unzip(data: bytes | bytearray) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(data, MAX_BODY)
    except zlib.error as e:
        raise WireError(f"the answer is no gzip: {e}") from e
    if not unzip.eof:
        raise WireError("the gzipped answer is cut short or too large")
    return plain
