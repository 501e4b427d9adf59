"""The HTTP client: what it reads of an answer, what it refuses, when it connects anew."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time

import pytest

from vecferry.transforms.endpoints import wire
from vecferry.transforms.endpoints.wire import Wire, WireError


class Scripted:
    """A server that gives each connection its scripted answers, then closes it."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.connections, self.received, self.accepted = list(connections), [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/x?y=1"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.listener.close()
        self.thread.join(5)

    def _serve(self):
        for answers in self.connections:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection, contextlib.suppress(OSError):  # the client may leave
                for answer in answers:
                    self.received.append(connection.recv(1 << 16))
                    for at in range(0, len(answer), 7):  # in small pieces
                        connection.sendall(answer[at : at + 7])


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
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(gzip.compress(b"body")), gzip.compress(b"body")),
    ],
    ids=["length", "continue", "chunked", "until close", "HTTP/1.0", "gzip"],
)
def test_each_way_to_send_a_body_is_read(answer):
    """Length, chunks, the end of the connection, gzip; however small the pieces."""
    (response,), server = _post([answer])
    assert (response.status, bytes(response.data)) == (200, b"body")
    request = server.received[0]
    assert request.startswith(b"POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Test: 1\r\n" in request
    assert request.endswith(b"\r\nContent-Length: 2\r\n\r\n{}")


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
    ],
    ids=["nothing", "short", "short chunk", "bad chunk", "no HTTP", "no gzip", "huge", "headers"],
)
def test_what_is_no_whole_answer_is_an_error(answer):
    """Never half a body, never more than may be read."""
    with pytest.raises(OSError, match=r".+"):
        _post([answer])


def test_a_server_that_says_nothing_is_given_up_in_time():
    """The timeout is for the whole answer; what is left of it is for the next piece."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            Wire(url, {}, connections=1, timeout=0.1).post(b"{}")
    with pytest.raises(TimeoutError):
        wire._receive(None, time.monotonic() - 1)


def test_a_certificate_that_nobody_signed_is_refused(tmp_path):
    """TLS is verified; the error is one of certificates."""
    assert Wire("https://h/", {}, connections=1, timeout=1)._tls().verify_mode is ssl.CERT_REQUIRED
    assert Wire("https://h/", {}, connections=1, timeout=1)._tls().check_hostname


def test_a_header_may_not_hold_a_line_break():
    """A key with a line break can't smuggle headers in."""
    with pytest.raises(ValueError, match="Authorization holds a line break"):
        Wire("http://h/", {"Authorization": "a\r\nX: y"}, connections=1, timeout=1)


def test_a_proxy_tunnels_tls(monkeypatch):
    """CONNECT with the proxy's own key; a refusal is an error."""
    with Scripted([b"HTTP/1.1 407 no\r\n\r\n"]) as proxy:
        port = proxy.listener.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        client = Wire("https://vectors.invalid/v1", {}, connections=1, timeout=5)
        with pytest.raises(WireError, match="the proxy answers 407"):
            client.post(b"{}")
        assert proxy.received[0] == (
            b"CONNECT vectors.invalid:443 HTTP/1.1\r\nHost: vectors.invalid:443\r\n"
            b"Proxy-Authorization: Basic bWU6cHc=\r\n\r\n"
        )
