"""Images from http(s) URLs: where a URL may lead, and what becomes of a server that fails.

A URL comes from a row, so it is not trusted: its address is looked up once, each answer is checked,
and the connection goes to an address that was checked; a redirect is another URL that is checked
the same way. TLS is verified against the URL's host name.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from http.cookiejar import DefaultCookiePolicy
from typing import Any, ClassVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from vecferry.errors import TerminalError, TransientError, redact, shorten
from vecferry.retry import parse_retry_after
from vecferry.transforms.embed_image import shown_url

MOST_REDIRECTS = 3
CONNECT_SECONDS = 10.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 421, 425, 429})
_GONE = frozenset({404, 410})
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.ip_network("::/96")
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")
_NO_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


Hold = Callable[[int], AbstractContextManager[None]]


class UnknownHostError(TransientError):
    """The name of a host is not known: a fault of the URL, or of the network for a moment."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet: no loopback, private, multicast or other one.

    An IPv6 address that stands for an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64) is
    what that one is.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _COMPATIBLE or any(ip in network for network in _NAT64):
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(part is not None and not is_public(str(part)) for part in inner):
            return False
        if ip.ipv4_mapped is not None or ip in _NAT64[0]:
            return True
        if ip.is_site_local or ip in _NAT64[1]:
            return False
    elif ip in _PROTOCOLS:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def checked_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, looked up once; TerminalError unless all of them are public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        if e.errno in _NO_NAME:
            raise UnknownHostError(f"there is no host {host!r}") from e
        raise TransientError(f"host {host!r} can't be looked up: {e.strerror}") from e
    except UnicodeError as e:
        raise TerminalError(f"{shorten(host, 60)!r} is no name of a host", "bad-image") from e
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in found))
    inside = [address for address in addresses if not is_public(address)]
    if inside:
        raise TerminalError(
            f"{host!r} has the address {inside[0]}, which is not one of the Internet: images are "
            "fetched from there only with allowPrivateAddresses: true",
            "image-private-address",
        )
    return addresses


class _Checked:
    """Connects to an address that was checked, whatever the name would mean a moment later."""

    def _new_conn(self: Any) -> socket.socket:
        failure: OSError = OSError("no address")
        for address in checked_addresses(self._dns_host, self.port):
            try:
                return create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as e:
                failure = e
        raise urllib3.exceptions.NewConnectionError(self, str(failure)) from failure


class _Http(_Checked, HTTPConnection):
    pass


class _Https(_Checked, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _CheckedAdapter(requests.adapters.HTTPAdapter):
    pools: ClassVar[dict[str, Any]] = {"http": _HttpPool, "https": _HttpsPool}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = self.pools


class Fetcher:
    """Gets images by URL; for many threads.

    `patterns` are regular expressions, one of which must match a URL as a whole. A proxy of the
    environment is used only where private addresses are allowed: behind it, nobody could check.
    `advice` ends the message about an image of more than `most_bytes`.
    """

    def __init__(
        self,
        *,
        patterns: Sequence[str] | None,
        allow_private: bool,
        timeout: float,
        most_bytes: int,
        advice: str,
        connections: int,
    ) -> None:
        self._patterns = None if patterns is None else [re.compile(p) for p in patterns]
        self._timeout, self._most_bytes, self._advice = timeout, most_bytes, advice
        self._session = session = requests.Session()
        adapter = requests.adapters.HTTPAdapter if allow_private else _CheckedAdapter
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_connections=64, pool_maxsize=connections))
        session.trust_env = False
        if allow_private:
            session.proxies.update(getproxies())
        authorities = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        session.verify = authorities or True
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers.update({"User-Agent": "vecferry", "Accept": "image/*,*/*;q=0.5"})
        session.headers["Accept-Encoding"] = "identity"
        self._lock = threading.Lock()
        self._answered: dict[str, float] = {}
        self._down: dict[str, float] = {}

    def get(self, url: str, hold: Hold) -> bytes:
        """The body of a URL; `hold` is told how many bytes it may have, before they are read.

        Raises TerminalError where the URL is at fault, TransientError where its server may be.
        """
        first = url
        deadline = time.monotonic() + self._timeout
        for _ in range(MOST_REDIRECTS + 1):
            self._require_trusted(url)
            try:
                with self._ask(url) as response:
                    if response.status_code not in _REDIRECTS:
                        body = self._body(url, response, deadline, hold)
                        with self._lock:
                            self._answered[_host(first)] = time.monotonic()
                        return body
                    target = response.headers.get("Location")
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
                raise _fault(url, e) from e
            if not target:
                raise TerminalError(f"{shown_url(url)} redirects to nowhere", "image-refused")
            url = urljoin(url, target)
        raise TerminalError(
            f"{shown_url(first)} redirects more than {MOST_REDIRECTS} times", "image-refused"
        )

    def answered(self, url: str) -> float:
        """When the host of a URL last gave an image, by the monotonic clock; 0 for never."""
        return self._answered.get(_host(url), 0.0)

    def is_down(self, url: str) -> bool:
        """Whether the host of a URL was given up less than a minute ago."""
        return self._down.get(_host(url), 0.0) > time.monotonic() - 60

    def give_up(self, url: str) -> None:
        """Notes that the host of a URL does not answer."""
        with self._lock:
            self._down[_host(url)] = time.monotonic()

    def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    def _require_trusted(self, url: str) -> None:
        if not url.lower().startswith(("http://", "https://")):
            text = f"a redirect to {shown_url(url)} is not followed: it is no http(s) URL"
            raise TerminalError(text, "image-refused")
        if self._patterns is None:
            return
        # What stands before an @ is no host, but looks like one to a pattern.
        if "@" in urlsplit(url).netloc or not any(p.fullmatch(url) for p in self._patterns):
            raise TerminalError(
                f"{shown_url(url)} matches none of setting.trustedEndpoints: add a pattern for it",
                "image-untrusted",
            )

    def _ask(self, url: str) -> requests.Response:
        seconds = (min(CONNECT_SECONDS, self._timeout), self._timeout)
        try:
            return self._session.get(url, stream=True, allow_redirects=False, timeout=seconds)
        except (ValueError, urllib3.exceptions.LocationValueError) as e:  # InvalidURL is one, too
            text = f"{shown_url(url)} is no URL that can be fetched: {type(e).__name__}"
            raise TerminalError(text, "bad-image") from e

    def _body(self, url: str, response: requests.Response, deadline: float, hold: Hold) -> bytes:
        status, headers = response.status_code, response.headers
        if status != 200:
            raise _refusal(url, status, headers.get("Retry-After"))
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("", "identity"):
            text = f"{shown_url(url)} is sent as {shorten(encoding, 20)}, which nobody asked for"
            raise TerminalError(text, "image-refused")
        length = headers.get("Content-Length", "")
        expected = int(length) if length.isascii() and length.isdigit() else None
        with hold(min(expected or self._most_bytes, self._most_bytes)):
            body = bytearray()
            if expected is None or expected <= self._most_bytes:
                # Not more than has come: what drips must not outlast the deadline.
                while piece := response.raw.read1(1 << 16, decode_content=False):
                    body += piece
                    if time.monotonic() > deadline:
                        seconds = f"{self._timeout:g} s"
                        raise TransientError(f"{shown_url(url)}: not read within {seconds}")
                    if len(body) > self._most_bytes:
                        break
        if max(len(body), expected or 0) > self._most_bytes:
            size = f"{expected:,}" if expected else f"more than {self._most_bytes:,}"
            raise TerminalError(
                f"{shown_url(url)} has {size} bytes, and {self._most_bytes:,} are read at most"
                f"{self._advice}",
                "image-too-large",
            )
        if expected is not None and len(body) != expected:
            raise TransientError(f"{shown_url(url)}: {len(body)} of {expected} bytes came")
        return bytes(body)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _refusal(url: str, status: int, wish: str | None) -> Exception:
    text = f"{shown_url(url)} answers {status}"
    if status >= 500 or status in _PASSING:
        return TransientError(text, parse_retry_after(wish))
    return TerminalError(text, "image-not-found" if status in _GONE else "image-refused")


def _fault(url: str, e: BaseException) -> Exception:
    """What a failed call means; its own text would show the URL with its signature."""
    root = e
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    text = getattr(root, "strerror", None) or str(root) or type(root).__name__
    shown = f"{shown_url(url)}: {redact(shorten(text, 120))}"
    if "CERTIFICATE_VERIFY_FAILED" in str(e):
        return TerminalError(f"{shown}: its certificate is not trusted", "image-refused")
    return TransientError(shown)
