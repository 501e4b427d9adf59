"""Where a name leads: addresses that are looked up once, checked, and connected to.

A URL comes from a row, so it is not trusted: it must not make us ask what only we can reach.
"""

from __future__ import annotations

import io
import ipaddress
import socket
import time
from http.client import HTTPResponse
from typing import Any, ClassVar

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from vecferry.errors import TerminalError, TransientError, shorten

_BUFFER = 1 << 16
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.ip_network("::/96")
# Inside a cloud, though the registries do not say so. The others that clouds use are link-local,
# shared or private already: 169.254.169.254, 100.100.100.200, fd00:ec2::254 and their like.
_SERVICES = (
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's wire server: settings and keys of machines
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; Oracle's metadata at .192
    ipaddress.ip_network("192.88.99.0/24"),  # the nearest relay of 6to4, given up by RFC 7526
)
# Newer than the tables of some Pythons, or without a host behind them.
_SPECIAL = (
    ipaddress.ip_network("2001:20::/28"),  # ORCHIDv2: names, not places
    ipaddress.ip_network("3fff::/20"),  # documentation, RFC 9637
    ipaddress.ip_network("5f00::/16"),  # segments of one network, RFC 9602
    ipaddress.ip_network("::ffff:0:0:0/96"),  # IPv4 as translators write it, inside a network
)
_NO_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class UnknownHostError(TransientError):
    """The name of a host is not known: a fault of the URL, or of the network for a moment."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet.

    Loopback, private, multicast and reserved addresses are not, nor are services of a cloud.
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
        if ip.is_site_local or ip in _NAT64[1] or any(ip in network for network in _SPECIAL):
            return False
    elif any(ip in network for network in _SERVICES):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def checked_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, looked up once; TerminalError unless all of them are public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        if e.errno in _NO_NAME:
            raise UnknownHostError(f"host {host!r} does not exist") from e
        raise TransientError(f"host {host!r} can't be looked up: {e.strerror}") from e
    except UnicodeError as e:
        raise TerminalError(f"{shorten(host, 60)!r} is not the name of a host", "bad-image") from e
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


class _Until(io.RawIOBase):
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
        return io.BufferedReader(self, _BUFFER)

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


class _Timed:
    """Reads head and body of an answer in one timeout; a socket's own begins anew at each byte."""

    response_class: Any

    def getresponse(self: Any) -> Any:
        until = _Until(time.monotonic() + (self.timeout or 0))
        self.response_class = until.response
        return super().getresponse()  # type: ignore[misc]


class _Http(_Timed, HTTPConnection):
    pass


class _Https(_Timed, HTTPSConnection):
    pass


class _CheckedHttp(_Checked, _Http):
    pass


class _CheckedHttps(_Checked, _Https):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _CheckedHttpPool(HTTPConnectionPool):
    ConnectionCls = _CheckedHttp


class _CheckedHttpsPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedHttps


class TimedAdapter(requests.adapters.HTTPAdapter):
    """Bounds the time in which an answer comes as a whole; a proxy is trusted to keep to it."""

    pools: ClassVar[dict[str, Any]] = {"http": _HttpPool, "https": _HttpsPool}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = self.pools


class CheckedAdapter(TimedAdapter):
    """Connects to public addresses only; TLS is verified against the name all the same."""

    pools: ClassVar[dict[str, Any]] = {"http": _CheckedHttpPool, "https": _CheckedHttpsPool}
