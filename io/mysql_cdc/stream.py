"""The events of a server's change log as they come over a connection of PyMySQL.

The server is asked as a replica asks. An event is handed on with its header and without its
checksum, which was verified. `LogReader` gives events a meaning.

Stands apart from `vecferry.io.mysql_cdc.following` because it knows the protocol, and no meaning.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from vecferry.errors import FatalError, JobError, redact, shorten
from vecferry.io.mysql.client import QUICK_SECONDS, classify, explained, keep_alive
from vecferry.io.mysql.client import connect as connect_client
from vecferry.io.mysql_cdc.gtid import GtidSet, MariaGtids, MysqlGtids
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import ConnectionLost, Refused

CHUNK = 1 << 18
"""So many bytes are asked of the socket at once."""
SILENCE = 4
"""So many heartbeats may fail to come before the connection counts as lost."""
USUAL_HEARTBEAT_SECONDS = 10.0
LEAST_SILENCE_SECONDS = 40.0
"""A server under load may send nothing for some seconds, however often it was asked to."""
MOST_START = (1 << 32) - 1
"""The command that asks for a place has four bytes for the offset."""

_REGISTER, _DUMP, _DUMP_GTID = 21, 18, 30
_THROUGH_GTID = 4
_HEADER, _WHOLE_PACKET = 19, (1 << 24) - 1
_FORMAT, _CRC32 = 15, 1
_PACKET, _WORD = struct.Struct("<IB"), struct.Struct("<I")
_NO_LOG, _PURGED_GTIDS = 1236, 1789
_WRITE_SECONDS = 3600


class Purged(Refused):
    """The server has removed what was to be read."""


class BeyondEnd(Refused):
    """The log file ends before the place, so the place is of another file."""


class Truncated(Refused):
    """The log has no whole event at the place."""


class Diverged(Refused):
    """The server does not know transactions that were read already."""


class ServerIdTaken(ConnectionLost):
    """Another reader has connected with our number; a new connection takes another number."""


_WORDS: tuple[tuple[str, type[Refused] | type[ConnectionLost], str], ...] = (
    (
        r"same server_(?:uu)?id",
        ServerIdTaken,
        "another reader has the same server_id, and the server keeps one of the two: connect again",
    ),
    (
        r"Could not find first log file|has purged|purged required|have been purged",
        Purged,
        "the log from the wanted place on has been purged: begin anew with a resync, and let the "
        "server keep its log longer",
    ),
    (
        r"position > file size|impossible position",
        BeyondEnd,
        "the log file ends before the wanted place, so this is another server or a log that began "
        "anew: begin anew with a resync",
    ),
    (
        r"more GTIDs than|not in the master's binlog|diverged|which is not in",
        Diverged,
        "the server does not have transactions that were read before, so this is another history: "
        "begin anew with a resync",
    ),
    (
        r"truncated in the middle|bogus data|event entry exceeded|event read from binlog|"
        r"event too small|corrupt",
        Truncated,
        "the log has no whole event at the wanted place: see that the server's disk is not full, "
        "or begin anew with a resync",
    ),
)


def explain_end(code: int, text: str, where: str) -> Refused | ConnectionLost | None:
    """What a server's error ends the log with; None if the error is not one of the log.

    Args:
      code: the number of the error.
      text: what the server says.
      where: the server, for the message.
    """
    taken = re.search(_WORDS[0][0], text)  # MariaDB has a number of its own for this
    if code not in (_NO_LOG, _PURGED_GTIDS) and not taken:
        return None
    said = shorten(redact(text), 300)
    for pattern, kind, meaning in _WORDS:
        if re.search(pattern, text):
            return kind(f"{where}: {meaning} ({said})")
    return Refused(f"{where} does not give its log: {said} [{code}]")


NAMED_BY = "('server_uuid', 'hostname', 'port', 'server_id')"


def name_of(variables: Mapping[str, str]) -> str:
    """Which server this is, by its variables: another server has another log."""
    uuid = variables.get("server_uuid")
    return uuid or f"{variables['hostname']}:{variables['port']}#{variables['server_id']}"


class BinlogStream:
    """The events from a place, or behind a set of transactions, for as long as there are any.

    Iterating gives each event as bytes. The iterator waits for new events and ends only when
    `interrupt` was called. It raises `ConnectionLost` if the server is away or silent, and one of
    `Purged`, `BeyondEnd`, `Truncated`, `Diverged`, `ServerIdTaken` if the server ends the log.

    Args:
      connection: the data source.
      since: where to begin. A place must be the beginning of an event. With a set of transactions
        the server sends all others.
      heartbeat_seconds: so often a server that has no events says that it is there.

    Attributes:
      where: the server, for messages.
      server: which server this is, see `name_of`.
      maria: whether the server is a MariaDB.
      charsets: the name of the character set for the number of each collation.
      server_id: the number that this reader has for the server.
    """

    def __init__(
        self,
        connection: TableConnection,
        *,
        since: Place | GtidSet,
        heartbeat_seconds: float = USUAL_HEARTBEAT_SECONDS,
        server_id: int | None = None,
    ) -> None:
        try:
            import pymysql
        except ImportError as e:
            raise JobError("MySQL needs the client PyMySQL: pip install 'vecferry[mysql]'") from e
        self._given, self._heartbeat = connection, heartbeat_seconds
        self._error, self._operational = pymysql.err.MySQLError, pymysql.err.OperationalError
        self.where = f"{connection.product} at {connection.place}"
        self.server_id = server_id or random.SystemRandom().randrange(1 << 24, 1 << 32)
        self._interrupted = threading.Event()
        self._buffer, self._at = b"", 0
        with explained(connection):
            self._connection = connect_client(connection, QUICK_SECONDS, None)
            try:
                keep_alive(self._connection)
                self._socket: socket.socket = self._connection._sock
                version = self._connection.server_version.lower()
                self.maria, self.short_json = "mariadb" in version, version.startswith("5.7.")
                self._prepare(since)
                self._register()
                self._ask(since)
                self._silence = max(LEAST_SILENCE_SECONDS, SILENCE * heartbeat_seconds)
                self._socket.settimeout(self._silence)
            except BaseException:
                self.close()
                raise

    def _prepare(self, since: Place | GtidSet) -> None:
        """Tells the server what this reader understands, and learns the server's collations."""
        period = int(self._heartbeat * 1e9)
        self._query(f"SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}")
        self._query(
            "SET @master_binlog_checksum = @@global.binlog_checksum, "
            "@source_binlog_checksum = @@global.binlog_checksum"
        )
        ((name,),) = self._query("SELECT @@global.binlog_checksum")
        self._checked = name != b"NONE"
        self._query(f"SET SESSION net_write_timeout = {_WRITE_SECONDS}")
        if self.maria:
            self._query("SET @mariadb_slave_capability = 4")
        if self.maria and isinstance(since, MariaGtids):
            state = self._connection.escape(str(since))
            self._query(f"SET @slave_connect_state = {state}, @slave_gtid_strict_mode = 0")
        self.charsets = self._collations()
        told = self._query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {NAMED_BY}")
        self.server = name_of({k.decode(): (v or b"").decode() for k, v in told})

    def _collations(self) -> dict[int, str]:
        found = self._query("SELECT id, character_set_name FROM information_schema.collations")
        if self.maria:
            with contextlib.suppress(self._error):  # older ones have no numbers there
                found += self._query(
                    "SELECT id, character_set_name "
                    "FROM information_schema.collation_character_set_applicability"
                )
        return {int(i): name.decode() for i, name in found if i is not None and name is not None}

    def _query(self, sql: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def _register(self) -> None:
        """Makes this reader known, as SHOW REPLICAS lists them."""
        self._command(_REGISTER, struct.pack("<IBBBHII", self.server_id, 0, 0, 0, 0, 0, 0))
        self._connection._read_packet()

    def _ask(self, since: Place | GtidSet) -> None:
        if isinstance(since, MysqlGtids):
            if self.maria:
                raise Diverged(
                    f"{self.where} is a MariaDB, and the place is a GTID set of MySQL: begin anew "
                    "with a resync"
                )
            known = since.encode()
            head = struct.pack("<HIIQI", _THROUGH_GTID, self.server_id, 0, 4, len(known))
            self._command(_DUMP_GTID, head + known)
            return
        if isinstance(since, MariaGtids) and not self.maria:
            raise Diverged(
                f"{self.where} is not a MariaDB, and the place is a GTID set of MariaDB: begin "
                "anew with a resync"
            )
        place = since if isinstance(since, Place) else Place("", 4)
        if place.offset > MOST_START:
            raise BeyondEnd(
                f"{self.where}: no reader can begin over 4 GiB into a file ({place}): begin anew "
                "with a resync, and keep transactions below that size"
            )
        head = struct.pack("<IHI", place.offset, 0, self.server_id)
        self._command(_DUMP, head + place.file.encode())

    def _command(self, number: int, data: bytes) -> None:
        head = struct.pack("<I", len(data) + 1)[:3] + bytes([0, number])
        self._connection._write_bytes(head + data)
        self._connection._next_seq_id = 1

    def __iter__(self) -> Iterator[bytes]:
        sequence, crc32, head, word = 1, zlib.crc32, _PACKET.unpack_from, _WORD.unpack_from
        while True:
            buffer, at = self._buffer, self._at
            have = len(buffer)
            while have - at > 4:
                size, status = head(buffer, at)
                stop = at + 4 + (size & _WHOLE_PACKET)
                if stop > have or stop - at > _WHOLE_PACKET:
                    break
                if size >> 24 != sequence & 255 or status:
                    raise self._end(buffer[at:stop], sequence)
                sequence += 1
                if self._checked and buffer[at + 9] != _FORMAT:
                    event = buffer[at + 5 : stop - 4]
                    if crc32(event) != word(buffer, stop - 4)[0]:
                        raise self._changed(event)
                    yield event
                else:
                    yield self._verified(buffer[at + 5 : stop])
                at = stop
            self._at = at
            if not self._fill(4):
                return
            size = int.from_bytes(self._buffer[self._at : self._at + 3], "little")
            if size < _WHOLE_PACKET - 3:
                if not self._fill(size + 4):
                    return
                continue
            whole = bytearray()
            sequence = self._join(whole, sequence)
            if not sequence:
                return
            yield self._verified(bytes(memoryview(whole)[1:]))

    def _join(self, event: bytearray, sequence: int) -> int:
        """Adds the packets of a large event; gives the number of the next packet, or 0."""
        while True:
            if not self._fill(4):
                return 0
            size = int.from_bytes(self._buffer[self._at : self._at + 3], "little")
            if self._buffer[self._at + 3] != sequence & 255:
                raise self._end(self._buffer[self._at : self._at + 5], sequence)
            if not self._fill(size + 4):
                return 0
            event += memoryview(self._buffer)[self._at + 4 : self._at + 4 + size]
            self._at += 4 + size
            sequence += 1
            if size < _WHOLE_PACKET:
                return sequence

    def _verified(self, event: bytes) -> bytes:
        """An event without its checksum, if there is one."""
        if len(event) < _HEADER:
            raise ConnectionLost(f"{self.where} sent an event of {len(event)} bytes")
        if event[4] == _FORMAT:
            self._checked = event[-5] == _CRC32
            return self._checksum(event) if self._checked else event[:-4]
        return self._checksum(event) if self._checked else event

    def _checksum(self, event: bytes) -> bytes:
        body = event[:-4]
        if zlib.crc32(body) != int.from_bytes(event[-4:], "little"):
            raise self._changed(body)
        return body

    def _changed(self, event: bytes) -> FatalError:
        return FatalError(
            f"{self.where}: the checksum of an event of type {event[4]} that ends at "
            f"{int.from_bytes(event[13:17], 'little')} is wrong; see whether the server's disk "
            "or the network changes data, and begin again",
            "checksum",
        )

    def _fill(self, need: int) -> bool:
        """Makes at least `need` bytes ready to be taken; False after an interrupt."""
        rest = self._buffer[self._at :]
        if len(rest) >= need:
            return True
        parts, have = [rest], len(rest)
        while have < need:
            part = self._receive(max(CHUNK, min(need - have, 1 << 20)))
            if part is None:
                return False
            parts.append(part)
            have += len(part)
        self._buffer, self._at = b"".join(parts), 0
        return True

    def _receive(self, size: int) -> bytes | None:
        try:
            part = self._socket.recv(size)
        except TimeoutError as e:
            if self._interrupted.is_set():
                return None
            raise ConnectionLost(
                f"{self.where} has been silent for {self._silence:g} s, without a heartbeat"
            ) from e
        except (OSError, ValueError) as e:
            if self._interrupted.is_set():
                return None
            raise ConnectionLost(f"the connection to {self.where} broke: {shorten(e)}") from e
        if part:
            return part
        if self._interrupted.is_set():
            return None
        raise ConnectionLost(f"{self.where} closed the connection of the log")

    def _end(self, packet: bytes, sequence: int) -> Exception:
        """What a packet says that is not the next event."""
        if packet[3] != sequence & 255 and packet[3]:  # a server that shuts down says 0
            return ConnectionLost(f"{self.where} sent packets in a wrong order")
        packet = packet[4:]
        if packet[0] != 255:
            return ConnectionLost(f"{self.where} ended the log")
        (code,) = struct.unpack_from("<H", packet, 1)
        text = packet[3:].decode("utf-8", "replace")
        text = text[6:] if text.startswith("#") else text
        ended = explain_end(code, text, self.where)
        if ended is not None:
            return ended
        return classify(self._operational(code, text), self._given)

    def ready(self, seconds: float) -> bool:
        """Whether the server has sent something, within `seconds`; nothing is taken."""
        if self._at < len(self._buffer):
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()  # `select` itself knows the first thousand files only
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def interrupt(self) -> None:
        """Ends the iteration, from any thread; what is waiting for an event stops at once."""
        self._interrupted.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection at once."""
        self._interrupted.set()
        if self._connection.open:
            self._connection._force_close()
