"""Our own HTTP client keeps to the contract, and to what it promises besides."""

from __future__ import annotations

import pytest

from tests.contracts.http import OK, HttpContract, Opens, Scripted, authority, target_of
from vecferry.transforms.embed.endpoints.wire import Wire

__all__ = ["authority"]  # a fixture


class TestWire(HttpContract):
    """What the engine relies on."""

    @pytest.fixture
    def opens(self) -> Opens:
        """Over sockets, read by httptools."""
        return Wire


def test_head_and_body_go_out_in_one_piece() -> None:
    """A second packet would wait for the first one to be acknowledged."""
    with Scripted([OK]) as server:
        client = Wire(target_of(server.url))
        sent: list[bytes] = []
        connection = client.connect()

        class Watched:
            """A connection that notes what is sent at once."""

            def __getattr__(self, name: str) -> object:
                return getattr(connection, name)

            def sendall(self, data: bytes) -> None:
                sent.append(data)
                connection.sendall(data)

            def fileno(self) -> int:
                return connection.fileno()

        client._idle.append(Watched())  # type: ignore[arg-type]
        client.send(b"{}")
        connection.close()
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
        client = Wire(target_of(server.url))
        with pytest.raises(OSError, match=r".+"):
            client.send(b"{}")
