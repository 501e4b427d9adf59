"""Which proxy is asked, and what it is told."""

from __future__ import annotations

import builtins
import select
import socket
import ssl
import sys
import threading
import time
from typing import Any

import pytest
from urllib3.util import parse_url

from tests.contracts.http import OK, Scripted, authority, send, target_of
from vecferry.errors import JobError, redact
from vecferry.transforms.embed.endpoints.pool import Pool
from vecferry.transforms.embed.endpoints.proxies import proxy_for

__all__ = ["authority"]  # a fixture


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "listed", "direct"),
    [
        ("http://10.1.2.3/", "10.0.0.0/8", True),
        ("http://10.1.2.3/", "10.2.0.0/16", False),
        ("http://10.1.2.3:8080/", "10.1.2.3:8080", True),
        ("http://10.1.2.3:8080/", "10.1.2.3:80", False),
        ("http://10.1.2.3/", "10.1.2.3:80", True),
        ("https://h.example/", "h.example:443", True),
        ("https://h.example/", "h.example:80", False),
        ("https://h.example/", ".example", True),
        ("https://h.example/", "*.example", True),
        ("https://h.example/", "EXAMPLE", True),
        ("https://h.example./", "h.example", True),
        ("https://h.example/", "ample", False),
        ("https://h.example/", "a, h.example ,b", True),
        ("https://h.example/", "a h.example", True),
        ("https://h.example/", "*", True),
        ("https://h.example/", "", False),
        ("https://h.example/", ",", False),
        ("https://h.example/", "10.0.0.0/8", False),
        ("https://[fd00::1]/", "fd00::/8", True),
        ("https://[fd00::1]/", "[fd00::1]", True),
        ("https://[fd00::1]:8443/", "[fd00::1]:8443", True),
        ("https://[fd00::1]:8443/", "[fd00::1]:8444", False),
        ("https://[fd00::1]/", "10.0.0.0/8", False),
        ("https://10.1.2.3/", "10.0.0.0/33", False),
    ],
)
def test_no_proxy_holds_names_networks_and_ports(
    monkeypatch: pytest.MonkeyPatch, url: str, listed: str, direct: bool
) -> None:
    """As curl and Go read it."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", listed)
    assert (proxy_for(parse_url(url)) is None) is direct


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        ("http://h/", {"HTTP_PROXY": "p:1", "ALL_PROXY": "q:2"}, "http://p:1"),
        ("https://h/", {"HTTP_PROXY": "p:1", "ALL_PROXY": "q:2"}, "http://q:2"),
        ("https://h/", {"HTTPS_PROXY": "https://p"}, "https://p:443"),
        ("https://h/", {"https_proxy": "http://p", "HTTPS_PROXY": "http://q"}, "http://p:80"),
        ("http://h/", {"all_proxy": "socks5h://p"}, "socks5h://p:1080"),
        ("http://h/", {"HTTPS_PROXY": "http://p"}, None),
        ("http://h/", {"HTTP_PROXY": "", "ALL_PROXY": ""}, None),
    ],
)
def test_the_proxy_is_the_one_for_the_scheme_or_for_all(
    monkeypatch: pytest.MonkeyPatch, url: str, given: dict[str, str], expected: str | None
) -> None:
    """Lower case goes before upper case."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(parse_url(url))
    assert (proxy and proxy.url) == expected


@pytest.mark.parametrize(
    "proxy", ["ftp://u:secretpw@p", "socks9://u:secretpw@p", "http://u:secretpw@p:port", "http://"]
)
def test_a_proxy_that_cannot_be_used_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """By the variable's name, without the password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(JobError, match="HTTPS_PROXY") as failure:
        Pool(target_of("https://h/"))
    assert "secretpw" not in str(failure.value)


def test_the_password_of_a_proxy_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in the variable, and as it is meant."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p%40ssw%C3%B6rt@proxy:1")
    proxy_for(parse_url("https://h/"))
    assert redact("p%40ssw%C3%B6rt and p@sswört") == "*** and ***"


def test_a_socks_proxy_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never spoken to in HTTP."""
    real = builtins.__import__

    def absent(name: str, *args: Any, **how: Any) -> Any:
        if name == "socks":
            raise ModuleNotFoundError(name)
        return real(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.delitem(sys.modules, "socks", raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(JobError, match=r"pip install 'vecferry\[socks\]'"):
        Pool(target_of("https://h/"))


def test_a_proxy_of_https_is_spoken_to_over_tls(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of the endpoint never goes to it in the clear."""
    path, tls = authority
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with Scripted([OK, OK], tls=tls) as proxy:
        port = proxy.listener.getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"https://me:pw@127.0.0.1:{port}")
        client = Pool(target_of("http://vectors.invalid/v1"))
        assert [bytes(send(client).data) for _ in range(2)] == [b"body"] * 2
    assert proxy.accepted == 1
    assert proxy.received[0].startswith(b"POST http://vectors.invalid/v1 HTTP/1.1\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("piece", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 x\r\n\r\n", b"x"])
def test_a_tunnel_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """A proxy that answers CONNECT without end has as long as an answer has."""
    with Scripted([piece + b"y" * 60_000], pause=0.02) as proxy:
        port = proxy.listener.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        client = Pool(target_of("https://vectors.invalid/v1", timeout=0.3))
        began = time.monotonic()
        with pytest.raises(OSError, match=r".+"):
            client.reach()
        assert time.monotonic() - began < 60


def test_tls_within_the_tls_of_a_proxy(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONNECT goes over TLS, and the endpoint's own TLS within it; two requests share both."""
    path, tls = authority
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with Scripted([OK, OK], tls=tls) as server, _TlsTunnel(tls, server) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        client = Pool(target_of(server.url))
        assert [bytes(send(client).data) for _ in range(2)] == [b"body"] * 2
        client.close()
    assert proxy.request.startswith(b"CONNECT 127.0.0.1:")
    assert server.accepted == 1


class _TlsTunnel:
    """A proxy of one connection that is spoken to over TLS, and hands on what follows."""

    def __init__(self, tls: ssl.SSLContext, server: Scripted) -> None:
        self.tls, self.server, self.request = tls, server, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> _TlsTunnel:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listener.close()
        self.thread.join(5)

    def _serve(self) -> None:
        plain, _ = self.listener.accept()
        outer = self.tls.wrap_socket(plain, server_side=True)
        while b"\r\n\r\n" not in self.request:
            self.request += outer.recv(1000)
        outer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        inner = socket.create_connection(self.server.listener.getsockname())
        with inner, outer:
            while True:
                ready = [outer] if outer.pending() else select.select([inner, outer], [], [], 30)[0]
                if not ready:
                    return
                for one, two in ((inner, outer), (outer, inner)):
                    if one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        two.sendall(data)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_socks_proxy_is_spoken_to_in_its_own_language(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, scheme: str, kind: str
) -> None:
    """With PySocks; the stray rules hold there as well."""
    pytest.importorskip("socks")
    path, tls = authority
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with Scripted([OK, OK], tls=tls if kind == "tls" else None) as server, _Socks() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:pw@127.0.0.1:{proxy.port}")
        client = Pool(target_of(server.url))
        assert [bytes(send(client).data) for _ in range(2)] == [b"body"] * 2
        client.close()
    assert proxy.key == b"\x01\x02me\x02pw"
    assert server.received[0].startswith(b"POST /x?y=1 HTTP/1.1\r\n")


class _Socks:
    """A SOCKS5 proxy of one connection, to an IPv4 address, with user and password."""

    def __init__(self) -> None:
        self.key = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> _Socks:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listener.close()
        self.thread.join(5)

    def _serve(self) -> None:
        outer, _ = self.listener.accept()
        outer.recv(100)
        outer.sendall(b"\x05\x02")
        self.key = outer.recv(100)
        outer.sendall(b"\x01\x00")
        asked = outer.recv(100)
        outer.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        inner = socket.create_connection(
            (socket.inet_ntoa(asked[4:8]), int.from_bytes(asked[8:10], "big"))
        )
        with inner, outer:
            while ready := select.select([inner, outer], [], [], 30)[0]:
                for one, two in ((inner, outer), (outer, inner)):
                    if one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        two.sendall(data)
