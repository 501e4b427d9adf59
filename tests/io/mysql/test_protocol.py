"""A server that sends what is not MySQL's protocol: its own fault, told in words."""

from __future__ import annotations

import pytest

from tests.pipelines.run.echoes import MysqlEcho
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.tables.database import ConnectionLost

STRANGE = [
    b"\xfb/etc/passwd",  # asks for a file of this machine
    b"\xfe",
    b"\xfd\xfd\xfd",
    b"\xff",
    b"\xff\0",
    b"",
]


class Strange(MysqlEcho):
    """Answers every query with the same packet."""

    packet = b""

    def _error(self, code: int, state: bytes) -> bytes:
        return self.packet


@pytest.mark.parametrize("packet", STRANGE, ids=repr)
def test_what_is_not_the_protocol_is_told_as_a_fault_of_the_server(packet: bytes) -> None:
    """PyMySQL raises what Python raises at such a place; nothing is read of this machine."""
    server = Strange()
    server.packet = packet
    with server.running():
        given = MySqlConnection(
            host="127.0.0.1", port=server.port, database="d", username="u", tls="off"
        )
        database = MySqlDatabase(given, quick=True)
        try:
            with pytest.raises(ConnectionLost, match="sent what is not MySQL's protocol"):
                database.texts("SELECT 1")
        finally:
            database.close()
