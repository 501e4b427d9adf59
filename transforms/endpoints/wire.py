"""Just enough HTTP/1.1 to POST to one host over connections that stay open.

A call through urllib3 costs 170 µs of processor time, through http.client 80, through this 15: at
640 calls a second that decides whether one process keeps an endpoint full. What a server may
send is bounded: 64 KiB of headers, `MAX_BODY` of body, and `timeout` seconds for the whole answer.
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
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

MAX_HEAD = 64 << 10
MAX_BODY = 256 << 20
CONNECT_SECONDS = 10.0


class WireError(OSError):
    """The server's answer ended early or is no HTTP."""


@dataclass(slots=True)
class Response:
    """An answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    data: bytes | bytearray


class Wire:
    """Connections to the host of `url`, for many threads; TLS is verified.

    The proxy is the one that the environment names for it. Failures are OSErrors.
    """

    def __init__(self, url: str, headers: dict[str, str], *, connections: int, timeout: float):
        parts = urlsplit(url)
        self.host, self.tls = parts.hostname or "", parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self._timeout, self._connections = timeout, connections
        proxy = None if proxy_bypass(self.host) else getproxies().get(parts.scheme)
        self.proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if self.proxy and not self.tls:
            target = f"http://{parts.netloc}{target}"
            headers = headers | self._proxy_key()
        lines = {"Host": parts.netloc, "Accept-Encoding": "gzip", **headers}
        for name, value in lines.items():
            if "\r" in value or "\n" in value:
                raise ValueError(f"header {name} holds a line break")
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._head = f"POST {target} HTTP/1.1\r\n{text}Content-Length: ".encode("latin-1")
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def post(self, body: bytes) -> Response:
        """Sends `body`, gives the answer."""
        deadline = time.monotonic() + self._timeout
        connection = self._take()
        try:
            connection.sendall(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
            response, reusable = _read(connection, deadline)
        except BaseException:
            connection.close()
            raise
        if reusable:
            with self._lock:
                if len(self._idle) < self._connections:
                    self._idle.append(connection)
                    return response
        connection.close()
        return response

    def connect(self) -> socket.socket:
        """A new connection, past the proxy and TLS."""
        where = (self.host, self.port)
        if self.proxy:
            where = (self.proxy.hostname or "", self.proxy.port or 80)
        connection = socket.create_connection(where, min(CONNECT_SECONDS, self._timeout))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                if self.proxy:
                    self._tunnel(connection)
                connection = self._tls().wrap_socket(connection, server_hostname=self.host)
            connection.settimeout(self._timeout)
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

    def _take(self) -> socket.socket:
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
            connection.close()  # the server has closed it, or says what nobody asked for
        return self.connect()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
            self._context = ssl.create_default_context(cafile=bundle or None)
        return self._context

    def _tunnel(self, connection: socket.socket) -> None:
        where = f"{self.host}:{self.port}"
        key = "".join(f"{name}: {value}\r\n" for name, value in self._proxy_key().items())
        connection.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{key}\r\n".encode())
        head = bytearray()
        while b"\r\n\r\n" not in head:
            more = connection.recv(1)  # not a byte of what follows: that is TLS
            if not more or len(head) > MAX_HEAD:
                raise WireError("the proxy closed the connection")
            head += more
        status, _ = _parse_head(bytes(head[:-4]))
        if status != 200:
            raise WireError(f"the proxy answers {status} to CONNECT {where}")

    def _proxy_key(self) -> dict[str, str]:
        if not self.proxy or not self.proxy.username:
            return {}
        pair = f"{unquote(self.proxy.username)}:{unquote(self.proxy.password or '')}"
        return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise WireError(f"no HTTP/1.1 answer: {first[:60]!r}")
    headers = {"": version}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


def _read(connection: Any, deadline: float) -> tuple[Response, bool]:
    """An answer, and whether the connection may serve again."""
    rest = b""
    while True:
        head, rest = _read_head(connection, rest, deadline)
        status, headers = _parse_head(head)
        if status >= 200:
            break
    length = headers.get("content-length")
    keep = headers.get("connection", "").lower() != "close" and headers[""] == "HTTP/1.1"
    data: bytes | bytearray
    if "chunked" in headers.get("transfer-encoding", "").lower():
        data, rest = _read_chunks(connection, rest, deadline)
        keep = keep and not rest
    elif status in (204, 304):
        data = b""
    elif length is not None and length.isdigit():
        data = _read_body(connection, rest, int(length), deadline)
    else:
        data, keep = _read_all(connection, rest, deadline), False
    if "gzip" in headers.get("content-encoding", ""):
        data = _unzip(data)
    return Response(status, headers, data), keep


def _receive(connection: Any, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out while reading the answer")
    connection.settimeout(left)
    more = connection.recv(1 << 17)
    if not more:
        raise WireError("the server closed the connection in the middle of its answer")
    return more  # type: ignore[no-any-return]


def _read_head(connection: Any, begin: bytes, deadline: float) -> tuple[bytes, bytes]:
    data = begin or _receive(connection, deadline)
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > MAX_HEAD:
            raise WireError(f"more than {MAX_HEAD} bytes of headers")
        data += _receive(connection, deadline)
    return data[:end], data[end + 4 :]


def _read_body(connection: Any, begin: bytes, length: int, deadline: float) -> bytes | bytearray:
    if length > MAX_BODY:
        raise WireError(f"a body of {length} bytes, {MAX_BODY} at most are read")
    if len(begin) >= length:
        return begin[:length]
    body = bytearray(length)
    body[: len(begin)] = begin
    view, at = memoryview(body), len(begin)
    while at < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out while reading the answer")
        connection.settimeout(left)
        n = connection.recv_into(view[at:])
        if not n:
            raise WireError(f"the answer ended after {at} of {length} bytes")
        at += n
    return body


def _read_all(connection: Any, begin: bytes, deadline: float) -> bytes:
    data = bytearray(begin)
    while True:
        try:
            data += _receive(connection, deadline)
        except WireError:
            return bytes(data)
        if len(data) > MAX_BODY:
            raise WireError(f"a body of more than {MAX_BODY} bytes")


def _read_chunks(connection: Any, rest: bytes, deadline: float) -> tuple[bytes, bytes]:
    body, data = bytearray(), bytearray(rest)
    while True:
        while (end := data.find(b"\r\n")) < 0:
            data += _receive(connection, deadline)
        try:
            size = int(bytes(data[:end]).split(b";")[0], 16)
        except ValueError:
            raise WireError(f"no size of a chunk: {bytes(data[:20])!r}") from None
        if len(body) + size > MAX_BODY:
            raise WireError(f"a body of more than {MAX_BODY} bytes")
        while len(data) < end + 2 + size + 2:
            data += _receive(connection, deadline)
        body += data[end + 2 : end + 2 + size]
        del data[: end + 2 + size + 2]
        if not size:
            return bytes(body), bytes(data)


def _unzip(data: bytes | bytearray) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(data, MAX_BODY)
    except zlib.error as e:
        raise WireError(f"the answer is no gzip: {e}") from e
    if not unzip.eof:
        raise WireError("the gzipped answer is cut short or too large")
    return plain
