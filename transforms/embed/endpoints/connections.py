"""Connections of urllib3 to one address, which keep to a deadline and to bounds.

urllib3 connects, speaks TLS, goes through proxies, writes requests, reads and unzips answers. A
deadline for all of it, a bound for what comes, and what is left behind an answer are added here.
"""

from __future__ import annotations

import io
import os
import re
import socket
import ssl
import time
from http.client import HTTPException, HTTPResponse
from typing import Any, Protocol

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import Url, make_headers, parse_url
from urllib3.util.connection import create_connection

from vecferry.errors import JobError
from vecferry.transforms.embed.endpoints.http import (
    CONNECT_SECONDS,
    MAX_HEAD,
    HttpAnswer,
    HttpError,
    HttpTarget,
)
from vecferry.transforms.embed.endpoints.proxies import PORTS, credentials, proxy_for

BUFFER = 64 << 10
PIECE = 256 << 10
"""Bytes of a body that are made room for at once, before they have come."""
_LENGTH = re.compile(r"[0-9]{1,15}")


class _Feed(io.RawIOBase):
    """What a socket receives, until a deadline, and no more than is allowed."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline, self.allowed = sock, deadline, MAX_HEAD + BUFFER
        self.ended, self.left_over = False, b""

    def makefile(self, mode: str) -> _Reader:
        """All that HTTPResponse asks of a socket."""
        # A file of its own keeps the socket open when the connection lets go of it.
        self._file = self.sock.makefile("rb", buffering=0)
        return _Reader(self, BUFFER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self.ended:
            return 0
        self.sock.settimeout(_left(self.deadline))
        n = self.sock.recv_into(buffer)
        self.allowed -= n
        if self.allowed < 0:
            raise HttpError("an answer of more bytes than are read")
        return n

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _Reader(io.BufferedReader):
    """Keeps what has come behind an answer, where a reader forgets it."""

    raw: _Feed

    def close(self) -> None:
        if not self.closed and not self.raw.ended:
            self.raw.ended = True
            self.raw.left_over = bytes(self.peek(1))
        super().close()


class _Response(HTTPResponse):
    """An answer whose head can be read in one way only."""

    def begin(self) -> None:
        super().begin()
        while self.status in (102, 103):  # one more head follows
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        if self.status == 101:
            raise HttpError("the server switches protocols, which nobody asked for")
        if self.msg.defects or self.msg.get_payload():
            raise HttpError("the head of the answer holds a line that is not a header")
        lengths = self.msg.get_all("content-length", [])
        codings = self.msg.get_all("transfer-encoding", [])
        if len(set(lengths)) + len(codings) > 1:
            raise HttpError("the answer says in two ways where it ends")
        if not all(map(_LENGTH.fullmatch, lengths)):
            raise HttpError(f"the answer has the length {lengths[0][:40]!r}")
        if codings and codings[0].lower() != "chunked":
            raise HttpError(f"the answer comes as {codings[0][:40]!r}")


class Connection(Protocol):
    """What `Opener` opens.

    Attributes:
      sock: the socket; None once it is closed.
      feed: what received the last answer.
    """

    sock: socket.socket | None
    feed: _Feed | None

    def exchange(
        self, target: str, body: bytes, headers: dict[str, str], deadline: float, bound: int
    ) -> HttpAnswer:
        """The answer to a POST, within the deadline and at most `bound` bytes of body."""

    def close(self) -> None:
        """Closes the socket."""


class _Bounded:
    """What is added to a connection of urllib3."""

    sock: Any
    timeout: Any
    response_class: Any
    deadline = 0.0
    feed: _Feed | None = None
    _held: list[bytes] | None = None

    def _read_with(self, sock: socket.socket, **how: Any) -> _Response:
        """What http.client reads an answer with, that of a proxy to CONNECT included."""
        self.feed = _Feed(sock, self.deadline)
        return _Response(self.feed, **how)  # type: ignore[arg-type]

    def open(self: Any, deadline: float) -> None:
        """Connects, through the proxy and TLS."""
        self.deadline = min(deadline, time.monotonic() + CONNECT_SECONDS)
        self.timeout = _left(self.deadline)
        self.response_class = self._read_with
        try:
            self.connect()
        except BaseException:
            self.close()
            raise

    def _new_conn(self: Any) -> socket.socket:
        failure: OSError = OSError("the host has no address")
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for i, answer in enumerate(found):
            try:
                share = _left(self.deadline) / (len(found) - i)
                sock = create_connection(
                    answer[4][:2],  # type: ignore[arg-type]
                    share,
                    socket_options=self.socket_options,
                )
                sock.settimeout(_left(self.deadline))
                return sock
            except OSError as e:
                failure = e
        raise failure

    def send(self, data: Any) -> None:
        """Sends all bytes; a socket's own timeout begins anew with each piece."""
        if self._held is not None:
            self._held.append(data)
            return
        view = memoryview(data)
        while view:
            self.sock.settimeout(_left(self.deadline))
            view = view[self.sock.send(view) :]

    def exchange(
        self: Any, target: str, body: bytes, headers: dict[str, str], deadline: float, bound: int
    ) -> HttpAnswer:
        """The answer to a POST, within the deadline and at most `bound` bytes of body."""
        self.deadline, self.timeout = deadline, _left(deadline)
        self._held = []  # head and body go out in one piece, unless that costs a large copy
        self.request("POST", target, body, headers, preload_content=False)
        held, self._held = self._held, None
        for piece in held if len(body) > PIECE else (b"".join(held),):
            self.send(piece)
        del held, piece
        response = self.getresponse()
        try:
            return self._read(response, bound)  # type: ignore[no-any-return]
        except BaseException:
            response.close()  # it keeps the socket open
            raise

    def _read(self: Any, response: urllib3.HTTPResponse, bound: int) -> HttpAnswer:
        names = response.headers
        coding = names.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise HttpError(f"the answer is packed as {coding[:40]!r}, which was not asked for")
        length = int(names.get("content-length", "0").partition(",")[0])
        if length > bound:
            raise HttpError(f"a body of {length} bytes, {bound} at most are read")
        self.feed.allowed += 8 * bound if response.chunked else bound
        data = _body(response, bound, unzip=coding.endswith("gzip"))
        return HttpAnswer(response.status, {k.lower(): v for k, v in names.items()}, data)


def _body(response: urllib3.HTTPResponse, bound: int, *, unzip: bool) -> bytes | bytearray:
    first = response.read(PIECE, decode_content=unzip)
    piece = response.read(PIECE, decode_content=unzip)  # an answer cut short is found by this one
    if not piece:
        _require_within(bound, len(first))
        return first
    data = bytearray(first)
    while piece:
        data += piece
        _require_within(bound, len(data))
        piece = response.read(PIECE, decode_content=unzip)
    return data


def _require_within(bound: int, size: int) -> None:
    if size > bound:
        raise HttpError(f"a body of more than {bound} bytes, as many are read at most")


class _Plain(_Bounded, HTTPConnection):
    pass


class _Tls(_Bounded, HTTPSConnection):
    pass


class Opener:
    """Opens connections to the address of a target.

    Raises JobError if the environment names authorities that can't be read, or a proxy that can't
    be used.
    """

    def __init__(self, target: HttpTarget) -> None:
        self._url = url = parse_url(target.url)
        self._timeout = target.timeout
        self.path = url.request_uri
        self.headers = {"Accept-Encoding": "gzip", **target.headers}
        for name, value in self.headers.items():
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"header {name} holds a line break or another odd character")
        self._proxy = proxy_for(url)
        self._proxy_headers: dict[str, str] = {}
        tls = url.scheme == "https"
        if self._proxy is not None and (pair := credentials(self._proxy)):
            self._proxy_headers = make_headers(proxy_basic_auth=":".join(pair))
        self._socks = _socks(self._proxy, tls=tls)
        through = self._proxy is not None and self._socks is None
        if through and not tls:
            self.path = f"http://{url.netloc}{url.request_uri}"
            self.headers |= self._proxy_headers
        encrypted = tls or (through and self._proxy is not None and self._proxy.scheme == "https")
        self._tls = _authorities() if encrypted else None

    def open(self, deadline: float) -> Connection:
        """A connection that stands, past proxy and TLS."""
        connection = self._make()
        connection.open(deadline)
        return connection  # type: ignore[no-any-return]

    def _make(self) -> Any:
        url, proxy = self._url, self._proxy
        tls = url.scheme == "https"
        host, port = (url.host or "").strip("[]"), url.port or PORTS[url.scheme or "http"]
        how: dict[str, Any] = {} if self._tls is None else {"ssl_context": self._tls}
        if self._socks is not None:
            kind, options = self._socks
            return kind(host=host, port=port, _socks_options=options, **how)
        if proxy is None:
            return (_Tls if tls else _Plain)(host, port, **how)
        config = ProxyConfig(self._tls, False, None, None)
        kind = _Plain if self._tls is None else _Tls
        connection = kind(
            (proxy.host or "").strip("[]"), proxy.port, proxy=proxy, proxy_config=config, **how
        )
        if tls:
            connection.set_tunnel(host, port, self._proxy_headers, scheme=proxy.scheme or "http")
        return connection


def _socks(proxy: Url | None, *, tls: bool) -> tuple[Any, dict[str, Any]] | None:
    """The class of connections through a SOCKS proxy, and its options; None for other proxies."""
    if proxy is None or not (proxy.scheme or "").startswith("socks"):
        return None
    try:
        import socks  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise JobError(
            f"the environment names a proxy of the kind {proxy.scheme!r}, which needs PySocks: "
            "pip install 'vecferry[socks]', or unset the variable"
        ) from None
    from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

    class Plain(_Bounded, SOCKSConnection):
        _new_conn = SOCKSConnection._new_conn  # type: ignore[assignment]

    class Tls(_Bounded, SOCKSHTTPSConnection):
        _new_conn = SOCKSHTTPSConnection._new_conn  # type: ignore[assignment]

    user, password = credentials(proxy) or (None, None)
    version = socks.SOCKS5 if "5" in (proxy.scheme or "") else socks.SOCKS4
    return Tls if tls else Plain, {
        "socks_version": version,
        "proxy_host": proxy.host,
        "proxy_port": proxy.port,
        "username": user,
        "password": password,
        "rdns": proxy.scheme in ("socks5h", "socks4a"),
    }


def _authorities() -> ssl.SSLContext:
    """Who signs certificates, by the environment or the system, and which certificate is ours."""
    context = None
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        if context is None and (bundle := os.environ.get(name)):
            try:
                folder = os.path.isdir(bundle)
                context = ssl.create_default_context(
                    cafile=None if folder else bundle, capath=bundle if folder else None
                )
            except OSError as e:
                raise JobError(
                    f"{name} names {bundle}, which is not a file of certificates ({e}): "
                    "mend or unset it"
                ) from e
    context = context or ssl.create_default_context()
    if own := os.environ.get(CLIENT_CERT):
        try:
            context.load_cert_chain(own, os.environ.get(CLIENT_KEY) or None, _no_password)
        except OSError as e:
            raise JobError(
                f"{CLIENT_CERT} names {own}, which is not a certificate with its key ({e}): "
                f"put both into that file, or name the key's file in {CLIENT_KEY}"
            ) from e
    return context


CLIENT_CERT = "VECFERRY_CLIENT_CERT"
CLIENT_KEY = "VECFERRY_CLIENT_KEY"


def _no_password() -> str:
    """Nobody is there to be asked for one."""
    return ""


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out while reading the answer")
    return left


def classify(e: Exception) -> OSError:
    """An error of urllib3 or http.client as the OSError that it comes from, or as an HttpError."""
    if isinstance(e, OSError):
        return e
    if isinstance(e, urllib3.exceptions.HTTPError) and isinstance(e.__cause__, OSError):
        return e.__cause__
    if isinstance(e, HTTPException | urllib3.exceptions.HTTPError | ValueError):
        return HttpError(f"no whole HTTP answer: {type(e).__name__}: {e}")
    raise e
