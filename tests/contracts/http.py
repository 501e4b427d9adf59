"""What every `Http` does: what it reads of an answer, what it refuses, when it connects anew.

A module of a library's tests has a class ``Test…(HttpContract)`` with the fixture `opens`, and
imports the fixture `authority`.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vecferry.errors import FatalError, JobError
from vecferry.transforms.embed.endpoints.client import JsonClient
from vecferry.transforms.embed.endpoints.http import (
    MAX_BODY,
    MAX_HEAD,
    Http,
    HttpAnswer,
    HttpTarget,
)

Opens = Callable[[HttpTarget], Http]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
BROKEN = {
    "nothing": b"",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",
    "short chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "not gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbody",
    "huge": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
    "headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEAD // 3),
}


class Scripted:
    """A server that gives each connection its scripted answers, then closes it.

    Before that it sends the bytes `unasked`, once `strays` is set.
    """

    def __init__(
        self,
        *connections: list[bytes],
        tls: ssl.SSLContext | None = None,
        tunnel: bool = False,
        pause: float = 0.0,
        unasked: bytes = b"",
    ) -> None:
        self.connections, self.accepted = list(connections), 0
        self.received: list[bytes] = []
        self.closed = threading.Semaphore(0)
        self.tls, self.tunnel, self.ended = tls, tunnel, threading.Event()
        self.pause = pause
        self.unasked, self.strays = unasked, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = (
            f"{'https' if tls else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}/x?y=1"
        )
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Scripted:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.listener.close()
        self.thread.join(5)

    def _serve(self) -> None:
        for answers in self.connections:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with contextlib.suppress(OSError):  # the client may leave
                self._answer(connection, answers)

    def _answer(self, connection: socket.socket, answers: list[bytes]) -> None:
        with connection:
            if self.tunnel:
                self.received.append(_request(connection))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            for answer in answers:
                request = _request(connection)
                if not request:
                    return
                self.received.append(request)
                for at in range(0, len(answer), 7):  # in small pieces
                    if self.pause and self.ended.wait(self.pause):
                        return
                    connection.sendall(answer[at : at + 7])
            if self.unasked and self.strays.wait(60):
                connection.sendall(self.unasked)
            connection.close()
        self.closed.release()


def _request(connection: socket.socket) -> bytes:
    """A whole request, however its client cuts it; empty where the client has gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1 << 16)
        if not piece:
            return b""
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def send(client: Http, body: bytes = b"{}") -> HttpAnswer:
    """The answer to a request."""
    return client.send(body, lambda answer: answer)


def in_lower_case(request: bytes) -> bytes:
    """A request with the name of the proxy's key in lower case, whoever wrote it."""
    return request.replace(b"\r\nProxy-Authorization:", b"\r\nproxy-authorization:")


def target_of(
    url: str, headers: Mapping[str, str] | None = None, *, connections: int = 1, timeout: float = 5
) -> HttpTarget:
    """A target with few bounds."""
    return HttpTarget(url=url, headers=headers or {}, connections=connections, timeout=timeout)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ssl.SSLContext]:
    """A file with a certificate for 127.0.0.1 that signs itself, and a server's TLS with it."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "authority.pem"
    write_authority(path, tmp_path / "key.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path, tmp_path / "key.pem")
    return str(path), tls


def write_authority(path: Path, key_path: Path) -> None:
    """Writes a certificate for 127.0.0.1 that signs itself, and its key."""
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
    path.write_bytes(certificate.public_bytes(pem))
    key_path.write_bytes(key.private_bytes(pem, kind, plain))


class HttpContract:
    """The claims; a library's tests inherit them."""

    @pytest.fixture
    def opens(self) -> Opens:
        """Makes the client for a target."""
        raise NotImplementedError

    def answer_to(self, opens: Opens, answer: bytes) -> tuple[HttpAnswer, bytes]:
        """What is read of an answer, and the request before it."""
        with Scripted([answer]) as server:
            client = opens(target_of(server.url, {"X-Test": "1"}, connections=2))
            read = send(client)
            client.close()
            return read, server.received[0]

    @pytest.mark.parametrize(
        "answer",
        [
            OK,
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nbody",
            b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
            % (len(gzip.compress(b"body")), gzip.compress(b"body")),
        ],
        ids=["length", "continue", "hints", "chunked", "until close", "HTTP/1.0", "gzip"],
    )
    def test_each_way_to_send_a_body_is_read(self, opens: Opens, answer: bytes) -> None:
        """Length, chunks, the end of the connection, gzip; however small the pieces."""
        read, request = self.answer_to(opens, answer)
        assert (read.status, bytes(read.data)) == (200, b"body")
        assert request.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
        head = request.lower()
        assert b"\r\nhost: 127.0.0.1:" in head
        assert b"\r\nx-test: 1\r\n" in head
        assert b"\r\ncontent-length: 2\r\n" in head
        assert request.endswith(b"\r\n\r\n{}")

    def test_an_empty_answer_that_calls_itself_gzip_keeps_its_status(self, opens: Opens) -> None:
        """A 401 without a body must not look like a broken answer, which would be tried again."""
        head = b"HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
        read, _ = self.answer_to(opens, head)
        assert (read.status, bytes(read.data)) == (401, b"")

    def test_names_of_headers_come_in_lower_case(self, opens: Opens) -> None:
        """So that they are found whatever a server writes."""
        read, _ = self.answer_to(opens, OK.replace(b"\r\n\r\n", b"\r\nRetry-AFTER: 7\r\n\r\n"))
        assert read.headers["retry-after"] == "7"

    def test_a_redirect_is_an_answer(self, opens: Opens) -> None:
        """It is told, and not followed: the key must not go elsewhere."""
        moved = b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        read, _ = self.answer_to(opens, moved)
        assert (read.status, read.headers["location"]) == (307, "http://127.0.0.1:1/")

    def test_a_connection_serves_again(self, opens: Opens) -> None:
        """Two requests, one connection."""
        with Scripted([OK, OK]) as server:
            client = opens(target_of(server.url))
            assert [bytes(send(client).data) for _ in range(2)] == [b"body", b"body"]
            client.close()
            assert server.accepted == 1

    @pytest.mark.parametrize(
        "first",
        [OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")],
        ids=["closed while idle", "said it would close"],
    )
    def test_a_closed_connection_is_not_used_again(self, opens: Opens, first: bytes) -> None:
        """The second request goes over a new one and succeeds."""
        with Scripted([first], [OK]) as server:
            client = opens(target_of(server.url))
            send(client)
            assert server.closed.acquire(timeout=60)
            assert bytes(send(client).data) == b"body"
            assert server.accepted == 2

    @pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
    def test_what_is_not_a_whole_answer_is_an_error(self, opens: Opens, answer: bytes) -> None:
        """Never half a body, never more than may be read."""
        with pytest.raises(OSError, match=r".+"):
            self.answer_to(opens, answer)

    def test_an_answer_that_never_ends_is_given_up_in_time(self, opens: Opens) -> None:
        """The timeout is for the whole answer, not for each piece of it."""
        drops = [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000]
        with Scripted(drops, pause=0.02) as server:
            client = opens(target_of(server.url, timeout=0.2))
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                send(client)
            assert time.monotonic() - began < 60  # all of it would take three minutes
            assert len(server.received) == 1

    def test_a_request_is_never_sent_twice(self, opens: Opens) -> None:
        """A server that reads it and hangs up gets it once, whatever the connection did before."""
        with Scripted([OK, b""], [OK]) as server:
            client = opens(target_of(server.url))
            send(client)
            with pytest.raises(OSError, match=r".+"):
                send(client)
            assert len(server.received) == 2
            send(client)
            assert (server.accepted, len(server.received)) == (2, 3)

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_an_authority_that_the_environment_names_is_trusted(
        self,
        opens: Opens,
        authority: tuple[str, ssl.SSLContext],
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        """Two requests, one handshake, over a connection that stays open."""
        path, tls = authority
        monkeypatch.setenv(variable, path)
        with Scripted([OK, OK], tls=tls) as server:
            client = opens(target_of(server.url))
            assert [bytes(send(client).data) for _ in range(2)] == [b"body"] * 2
            client.close()
            assert server.accepted == 1

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["unsigned", "another host"])
    def test_a_certificate_that_nobody_signed_is_refused(
        self,
        opens: Opens,
        authority: tuple[str, ssl.SSLContext],
        monkeypatch: pytest.MonkeyPatch,
        host: str,
    ) -> None:
        """Nor one of another host; the error says the way out, and no request was sent."""
        path, tls = authority
        if host == "localhost":
            monkeypatch.setenv("SSL_CERT_FILE", path)
        with Scripted([OK], [OK], tls=tls) as server:
            url = server.url.replace("127.0.0.1", host)
            client = JsonClient(url, opens(target_of(url)))
            trusted = r"certificate is not trusted .* REQUESTS_CA_BUNDLE"
            with pytest.raises(FatalError, match=trusted):
                client.post({}, lambda content: content)
            with pytest.raises(FatalError, match="certificate is not trusted"):
                client.reach()
        assert server.received == []

    @pytest.mark.parametrize("content", [None, "no certificate"], ids=["absent", "empty"])
    def test_a_bundle_that_cannot_be_read_is_told_at_once(
        self, opens: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
    ) -> None:
        """Not retried for ten minutes as a network that is down would be."""
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        with pytest.raises(JobError, match=r"REQUESTS_CA_BUNDLE names .*ca\.pem"):
            opens(target_of("https://h/"))

    @pytest.mark.parametrize("key", ["a\r\nX: y", "a\nX: y", "a\0", "ключ"], ids=ascii)
    def test_a_header_may_not_hold_a_line_break(self, opens: Opens, key: str) -> None:
        """A key with a line break can't smuggle headers in, and is not shown."""
        with pytest.raises(ValueError, match="Authorization holds a line break") as failure:
            opens(target_of("http://h/", {"Authorization": key}))
        assert key not in str(failure.value)

    def test_a_proxy_tunnels_tls(self, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
        """CONNECT has the key of the proxy, which the server does not get; a refusal fails."""
        with Scripted([b"HTTP/1.1 407 no\r\n\r\n"]) as proxy:
            port = proxy.listener.getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            client = opens(target_of("https://vectors.invalid/v1", {"Authorization": "sk"}))
            with pytest.raises(OSError, match="407 no"):
                send(client)
        (request,) = proxy.received
        assert request.startswith(b"CONNECT vectors.invalid:443 HTTP/1.")
        assert b"\r\nproxy-authorization: Basic bWU6cHc=\r\n" in in_lower_case(request)
        assert b"sk" not in request

    def test_tls_goes_through_the_tunnel_of_a_proxy(
        self,
        opens: Opens,
        authority: tuple[str, ssl.SSLContext],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The certificate is that of the server behind the proxy; two requests share a tunnel."""
        path, tls = authority
        with Scripted([OK, OK], tls=tls, tunnel=True) as proxy:
            monkeypatch.setenv("SSL_CERT_FILE", path)
            monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.listener.getsockname()[1]}")
            monkeypatch.setenv("no_proxy", "")
            client = opens(target_of("https://127.0.0.1:9/v1"))
            assert [bytes(send(client).data) for _ in range(2)] == [b"body"] * 2
            client.close()
        assert proxy.accepted == 1
        assert proxy.received[0].startswith(b"CONNECT 127.0.0.1:9 ")
        assert proxy.received[1].startswith(b"POST /v1 HTTP/1.1\r\n")

    def test_a_proxy_of_plain_http_gets_its_key_and_the_whole_address(
        self, opens: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As RFC 9112 has it, §3.2.2."""
        with Scripted([OK]) as proxy:
            port = proxy.listener.getsockname()[1]
            monkeypatch.setenv("http_proxy", f"http://me:p%40w@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            send(opens(target_of("http://vectors.invalid/v1?a=b")))
        (request,) = proxy.received
        assert request.startswith(b"POST http://vectors.invalid/v1?a=b HTTP/1.1\r\n")
        assert b"\r\nproxy-authorization: Basic bWU6cEB3\r\n" in in_lower_case(request)

    def test_no_proxy_is_asked_for_a_host_that_needs_none(
        self, opens: Opens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`NO_PROXY` is heeded."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        read, _ = self.answer_to(opens, OK)
        assert read.status == 200
