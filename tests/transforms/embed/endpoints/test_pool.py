"""The pool of connections keeps to the contract, and to what it promises besides."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.http import OK, HttpContract, Opens, Scripted, authority, send, target_of
from vecferry.errors import JobError
from vecferry.transforms.embed.endpoints.pool import Pool

__all__ = ["authority"]  # a fixture


class TestPool(HttpContract):
    """What the engine relies on."""

    @pytest.fixture
    def opens(self) -> Opens:
        """Over connections of urllib3."""
        return Pool


def test_head_and_body_go_out_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second packet would be a second system call, and over TLS a second record."""
    sent: list[bytes] = []

    class Watched(socket.socket):
        """A socket that notes what is sent at once."""

        def send(self, data: Any, flags: int = 0) -> int:
            sent.append(bytes(data))
            return super().send(data, flags)

    with Scripted([OK]) as server:
        client = Pool(target_of(server.url))
        monkeypatch.setattr(socket, "socket", Watched)
        send(client)
        client.close()
    assert len(sent) == 1
    assert sent[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 4\r\n\r\nbody",
    ],
    ids=["101", "two ways to end", "two lengths"],
)
def test_an_answer_that_can_be_read_in_two_ways_is_an_error(answer: bytes) -> None:
    """One of the ways would leave bytes behind, which the next request took for its answer."""
    with Scripted([answer]) as server:
        client = Pool(target_of(server.url))
        with pytest.raises(OSError, match=r".+"):
            send(client)


def test_a_certificate_of_the_client_is_shown(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one file or two; a server that wants one gives no answer without it."""
    path, tls = authority
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(path)
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with Scripted([OK], [OK], [OK], tls=tls) as server:
        with pytest.raises(OSError, match=r".+"):
            send(Pool(target_of(server.url)))
        monkeypatch.setenv("VECFERRY_CLIENT_CERT", path)
        key = Path(path).with_name("key.pem")
        monkeypatch.setenv("VECFERRY_CLIENT_KEY", str(key))
        assert send(Pool(target_of(server.url))).status == 200
        both = Path(path).with_name("both.pem")
        both.write_bytes(Path(path).read_bytes() + key.read_bytes())
        monkeypatch.setenv("VECFERRY_CLIENT_CERT", str(both))
        monkeypatch.delenv("VECFERRY_CLIENT_KEY")
        assert send(Pool(target_of(server.url))).status == 200


def test_a_certificate_of_the_client_without_its_key_is_told_at_once(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable's name, before anything is sent."""
    monkeypatch.setenv("VECFERRY_CLIENT_CERT", authority[0])
    with pytest.raises(JobError, match="VECFERRY_CLIENT_KEY"):
        Pool(target_of("https://h/"))


def test_a_folder_of_authorities_is_taken(
    authority: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty one trusts nobody."""
    _, tls = authority
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with Scripted([OK], tls=tls) as server, pytest.raises(ssl.SSLCertVerificationError):
        send(Pool(target_of(server.url)))
