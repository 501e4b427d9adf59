"""The HTTP client: what it reads of an answer, what it refuses, when it connects anew."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vecferry.errors import FatalError, JobError
from vecferry.transforms.embed.endpoints.http import HttpClient
from vecferry.transforms.embed.endpoints.wire import Wire


class Scripted:
    """A server that gives each connection its scripted answers, then closes it."""

    def __init__(
        self,
        *connections: list[bytes],
        tls: ssl.SSLContext | None = None,
        tunnel: bool = False,
        pause: float = 0.0,
    ) -> None:
        self.connections, self.received, self.accepted = list(connections), [], 0
        self.tls, self.tunnel, self.ended = tls, tunnel, threading.Event()
        self.pause = pause
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = (
            f"{'https' if tls else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}/x?y=1"
        )
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.listener.close()
        self.thread.join(5)

    def _serve(self):
        for answers in self.connections:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with contextlib.suppress(OSError):  # the client may leave
                self._answer(connection, answers)

    def _answer(self, connection, answers):
        with connection:
            if self.tunnel:
                self.received.append(connection.recv(1 << 16))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            for answer in answers:
                self.received.append(connection.recv(1 << 16))
                for at in range(0, len(answer), 7):  # in small pieces
                    if self.pause and self.ended.wait(self.pause):
                        return
                    connection.sendall(answer[at : at + 7])
            connection.close()


def _post(*connections, calls=1, timeout=5.0):
    with Scripted(*connections) as server:
        client = Wire(server.url, {"X-Test": "1"}, connections=2, timeout=timeout)
        answers = [client.post(b"{}") for _ in range(calls)]
        client.close()
        return answers, server


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(gzip.compress(b"body")), gzip.compress(b"body")),
    ],
    ids=["length", "continue", "hints", "chunked", "until close", "HTTP/1.0", "gzip"],
)
def test_each_way_to_send_a_body_is_read(answer):
    """Length, chunks, the end of the connection, gzip; however small the pieces."""
    (response,), server = _post([answer])
    assert (response.status, bytes(response.data)) == (200, b"body")
    request = server.received[0]
    assert request.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert b"\r\nHost: 127.0.0.1:" in request
    assert b"\r\nX-Test: 1\r\n" in request
    assert b"\r\nContent-Length: 2\r\n" in request
    assert request.endswith(b"\r\n\r\n{}"), "head and body come in one piece"


def test_an_empty_answer_that_calls_itself_gzip_keeps_its_status():
    """A 401 without a body must not look like a broken answer, which would be tried again."""
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    (response,), _ = _post([head])
    assert (response.status, bytes(response.data)) == (401, b"")


def test_a_connection_serves_again():
    """Two requests, one connection."""
    answers, server = _post([OK, OK], calls=2)
    assert [bytes(a.data) for a in answers] == [b"body", b"body"]
    assert server.accepted == 1


@pytest.mark.parametrize(
    "first",
    [OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")],
    ids=["closed while idle", "said it would close"],
)
def test_a_closed_connection_is_not_used_again(first):
    """The second request goes over a new one and succeeds."""
    with Scripted([first], [OK]) as server:
        client = Wire(server.url, {}, connections=2, timeout=5)
        client.post(b"{}")
        if client._idle:  # wait until the end of the connection has arrived
            assert client._idle[0].recv(1, socket.MSG_PEEK) == b""
        assert bytes(client.post(b"{}").data) == b"body"
        assert server.accepted == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 4\r\n\r\nbody",
    ],
    ids=[
        "nothing",
        "short",
        "short chunk",
        "bad chunk",
        "no HTTP",
        "no gzip",
        "huge",
        "headers",
        "101",
        "two ways to end",
        "two lengths",
    ],
)
def test_what_is_no_whole_answer_is_an_error(answer):
    """Never half a body, never more than may be read."""
    with pytest.raises(OSError, match=r".+"):
        _post([answer])


def test_an_answer_that_never_ends_is_given_up_in_time():
    """The timeout is for the whole answer, not for each piece of it."""
    drops = [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000]
    with Scripted(drops, pause=0.02) as server:
        client = Wire(server.url, {}, connections=1, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.post(b"{}")
        assert time.monotonic() - began < 2
        assert len(server.received) == 1


def test_a_request_is_never_sent_twice():
    """A server that reads it and hangs up gets it once, on a connection that served before, too."""
    with Scripted([OK, b""], [OK]) as server:
        client = Wire(server.url, {}, connections=1, timeout=5)
        client.post(b"{}")
        with pytest.raises(OSError, match=r".+"):
            client.post(b"{}")
        assert len(server.received) == 2
        client.post(b"{}")
        assert (server.accepted, len(server.received)) == (2, 3)


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """A file with a certificate for 127.0.0.1 that signs itself, and a server's TLS with it."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vecferry test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path / "authority.pem"
    path.write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, kind, plain))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path, tmp_path / "key.pem")
    return str(path), tls


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_that_the_environment_names_is_trusted(authority, monkeypatch, variable):
    """Two requests, one handshake, over a connection that stays open."""
    path, tls = authority
    monkeypatch.setenv(variable, path)
    with Scripted([OK, OK], tls=tls) as server:
        client = HttpClient(server.url, {}, connections=1, timeout=5)
        assert [bytes(client.post(b"{}")) for _ in range(2)] == [b"body"] * 2
        client.close()
        assert server.accepted == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["unsigned", "of another host"])
def test_a_certificate_that_nobody_signed_is_refused(authority, monkeypatch, host):
    """Nor one of another host; the error says the way out, and no request was sent."""
    path, tls = authority
    if host == "localhost":
        monkeypatch.setenv("SSL_CERT_FILE", path)
    with Scripted([OK], [OK], tls=tls) as server:
        url = server.url.replace("127.0.0.1", host)
        client = HttpClient(url, {}, connections=1, timeout=5)
        with pytest.raises(FatalError, match=r"certificate is not trusted .* REQUESTS_CA_BUNDLE"):
            client.post(b"{}")
        with pytest.raises(FatalError, match="certificate is not trusted"):
            client.reach()
    assert server.received == []


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["absent", "empty"])
def test_a_bundle_that_cannot_be_read_is_told_at_once(tmp_path, monkeypatch, content):
    """Not retried for ten minutes as a network that is down would be."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(JobError, match=r"REQUESTS_CA_BUNDLE names .*ca\.pem"):
        Wire("https://h/", {}, connections=1, timeout=1)


@pytest.mark.parametrize("key", ["a\r\nX: y", "a\nX: y", "a\0", "ключ"], ids=ascii)
def test_a_header_may_not_hold_a_line_break(key):
    """A key with a line break can't smuggle headers in, and is not shown."""
    with pytest.raises(ValueError, match="Authorization holds a line break") as failure:
        Wire("http://h/", {"Authorization": key}, connections=1, timeout=1)
    assert key not in str(failure.value)


def test_a_proxy_tunnels_tls(monkeypatch):
    """CONNECT with the proxy's own key, which the server does not get; a refusal is an error."""
    with Scripted([b"HTTP/1.1 407 no\r\n\r\n"]) as proxy:
        port = proxy.listener.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        client = Wire(
            "https://vectors.invalid/v1", {"Authorization": "sk"}, connections=1, timeout=5
        )
        with pytest.raises(OSError, match="407 no"):
            client.post(b"{}")
    (request,) = proxy.received
    assert request.startswith(b"CONNECT vectors.invalid:443 HTTP/1.")
    assert b"\r\nProxy-Authorization: Basic bWU6cHc=\r\n" in request
    assert b"sk" not in request


def test_tls_goes_through_the_tunnel_of_a_proxy(authority, monkeypatch):
    """The certificate is that of the server behind the proxy; two requests share a tunnel."""
    path, tls = authority
    with Scripted([OK, OK], tls=tls, tunnel=True) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        client = Wire("https://127.0.0.1:9/v1", {}, connections=1, timeout=5)
        assert [bytes(client.post(b"{}").data) for _ in range(2)] == [b"body"] * 2
        client.close()
    assert proxy.accepted == 1
    assert proxy.received[0].startswith(b"CONNECT 127.0.0.1:9 ")
    assert proxy.received[1].startswith(b"POST /v1 HTTP/1.1\r\n")


def test_a_proxy_of_plain_http_gets_its_key_and_the_whole_address(monkeypatch):
    """As RFC 9112 has it, §3.2.2."""
    with Scripted([OK]) as proxy:
        monkeypatch.setenv(
            "http_proxy", f"http://me:p%40w@127.0.0.1:{proxy.listener.getsockname()[1]}"
        )
        monkeypatch.setenv("no_proxy", "")
        Wire("http://vectors.invalid/v1?a=b", {}, connections=1, timeout=5).post(b"{}")
    (request,) = proxy.received
    assert request.startswith(b"POST http://vectors.invalid/v1?a=b HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6cEB3\r\n" in request


def test_no_proxy_is_asked_for_a_host_that_needs_none(monkeypatch):
    """`NO_PROXY` is heeded."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (response,), _ = _post([OK])
    assert response.status == 200
