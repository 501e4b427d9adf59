"""POSTs to one host over connections that stay open; httptools reads the answers.

It is the `Http` of the engine, which spends a third less processor time over it than over urllib3.
On a busy machine this decides whether one process keeps an endpoint full (docs/performance.md).
"""

from __future__ import annotations

import base64
import os
import select
import socket
import ssl
import threading
import time
import zlib
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from vecferry.errors import JobError
from vecferry.transforms.embed.endpoints.http import (
    CONNECT_SECONDS,
    MAX_BODY,
    MAX_HEAD,
    HttpAnswer,
    HttpError,
    HttpTarget,
)

BUFFER = 1 << 17


class Wire:
    """Connections to the host of a target; an `Http`.

    Raises JobError if the environment names authorities that can't be read.
    """

    def __init__(self, target: HttpTarget) -> None:
        parts = urlsplit(target.url)
        self.host, self.tls = parts.hostname or "", parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self._timeout, self._connections = target.timeout, target.connections
        proxy = None if proxy_bypass(self.host) else getproxies().get(parts.scheme)
        self.proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Host": parts.netloc, "Accept-Encoding": "gzip", **target.headers}
        if self.proxy and not self.tls:
            self._target = f"http://{parts.netloc}{self._target}"
            self._headers |= self._proxy_key()
        for name, value in self._headers.items():
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"header {name} holds a line break or another odd character")
        if not self._target.isascii() or not self._target.isprintable() or " " in self._target:
            raise ValueError("the path of the address holds a blank or another odd character")
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        self._head = f"POST {self._target} HTTP/1.1\r\n{lines}Content-Length: ".encode("ascii")
        self._idle: list[socket.socket] = []
        self._buffers = threading.local()
        self._lock = threading.Lock()
        self._tls = _authorities() if self.tls else None

    def send(self, body: bytes) -> HttpAnswer:
        """The answer to `body`."""
        deadline = time.monotonic() + self._timeout
        connection = self._take()
        try:
            connection.sendall(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
            answer, reusable = _read(connection, self._buffer(), deadline)
        except BaseException:
            connection.close()
            raise
        if reusable:
            self._keep(connection)
        else:
            connection.close()
        data: bytes | bytearray = answer.data
        if data and "gzip" in answer.headers.get("content-encoding", ""):
            data = _unzip(data)
        return HttpAnswer(answer.status, answer.headers, data)

    def reach(self) -> None:
        """Opens a connection and closes it."""
        self.connect().close()

    def connect(self) -> socket.socket:
        """A new connection, past the proxy and TLS."""
        host, port = self.host, self.port
        if self.proxy:
            host, port = self.proxy.hostname or "", self.proxy.port or 80
        limit = min(CONNECT_SECONDS, self._timeout)
        opener = HTTPConnection(host, port, timeout=limit)
        if self.tls:
            opener = HTTPSConnection(host, port, timeout=limit, context=self._tls)
            if self.proxy:
                opener.set_tunnel(self.host, self.port, self._proxy_key())
        try:
            opener.connect()
        except HTTPException as e:
            opener.close()
            raise HttpError(f"no HTTP answer of the proxy: {type(e).__name__}: {e}") from e
        except BaseException:
            opener.close()
            raise
        opener.sock.settimeout(self._timeout)
        return opener.sock

    def close(self) -> None:
        """Closes the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> socket.socket:
        """A connection on which nothing has come: one that the server closed is not used again."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                connection.settimeout(self._timeout)
                return connection
            connection.close()
        return self.connect()

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < self._connections:
                self._idle.append(connection)
                return
        connection.close()

    def _buffer(self) -> bytearray:
        buffer: bytearray | None = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = bytearray(BUFFER)
        return buffer

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
                    f"{name} names {bundle}, which is not a file of certificates ({e}): "
                    "mend or unset it"
                ) from e
    return ssl.create_default_context()


class _Answer:
    """What httptools reads of an answer, and whether it is there whole."""

    def __init__(self) -> None:
        self.status, self.length = 0, -1
        self.headers: dict[str, str] = {}
        self.data = bytearray()
        self.begun = self.whole = self.more = self.stays = False
        self.parser = HttpResponseParser(self)

    @property
    def sized(self) -> bool:
        """Whether the head says where the body ends; else it does with the connection."""
        return self.length >= 0 or "transfer-encoding" in self.headers

    def on_message_begin(self) -> None:
        self.more = self.whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.begun:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.whole:
            return
        self.status = self.parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
            return
        self.begun, self.stays = True, bool(self.parser.should_keep_alive())
        self.length = int(self.headers.get("content-length", -1))
        if self.length > MAX_BODY:
            raise HttpError(f"a body of {self.length} bytes, {MAX_BODY} at most are read")

    def on_body(self, piece: bytes) -> None:
        if not self.whole:
            self.data += piece

    def on_message_complete(self) -> None:
        self.whole = self.begun


def _read(connection: socket.socket, buffer: bytearray, deadline: float) -> tuple[_Answer, bool]:
    """The answer, and whether the connection may serve again."""
    answer, view, received = _Answer(), memoryview(buffer), 0
    while not answer.whole:
        n = _receive(connection, view, deadline)
        if not n and answer.begun and not answer.sized:
            return answer, False
        received += _some(n, received)
        if received > MAX_BODY or (received > MAX_HEAD + BUFFER and not answer.begun):
            raise HttpError(f"an answer of more than {received} bytes")
        try:
            answer.parser.feed_data(view[:n])
        except HttpParserCallbackError as e:
            raise e.__context__ or e from None
        except (HttpParserError, HttpParserUpgrade) as e:
            if not answer.whole:
                raise HttpError(f"no HTTP answer: {e} in {bytes(view[: min(n, 60)])!r}") from e
            return answer, False
        if answer.begun and answer.length > len(answer.data):
            _fill(connection, answer, deadline)
            break
    return answer, answer.stays and not answer.more


def _fill(connection: socket.socket, answer: _Answer, deadline: float) -> None:
    """Receives the rest of a body of known length where it is to lie: a parser would copy it."""
    at = len(answer.data)
    answer.data += bytes(answer.length - at)
    view = memoryview(answer.data)
    while at < answer.length:
        at += _some(_receive(connection, view[at:], deadline), at)


def _some(n: int, before: int) -> int:
    if not n:
        raise HttpError(f"the answer ended early, after {before} bytes")
    return n


def _receive(connection: socket.socket, view: memoryview, deadline: float) -> int:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out while reading the answer")
    connection.settimeout(left)
    return connection.recv_into(view)


def _unzip(data: bytes | bytearray) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(data, MAX_BODY)
    except zlib.error as e:
        raise HttpError(f"the answer is not gzip: {e}") from e
    if not unzip.eof:
        raise HttpError("the gzipped answer is cut short or too large")
    return plain
