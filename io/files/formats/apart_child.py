"""The child process of `vecferry.io.files.formats.apart`: it reads files for its parent.

Every message goes over one socket. The child says that it is ready. Then its parent asks, and the
child answers once. Before an answer the child may ask for bytes of the file (`READ`), and the
parent sends them. When the parent is gone the child ends, whatever it is at.

Apart from `vecferry.io.files.formats.apart` because the child needs nothing of the parent.
"""

from __future__ import annotations

import importlib
import io
import os
import resource
import select
import threading
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import orjson

READ, BATCH, END = b"r", b"b", b"e"
UNSOUND, MEMORY, FAULT = b"x", b"m", b"f"
"""The first byte of an answer; a servant has more. Behind `BATCH` comes a message of its own."""


class Servant:
    """Answers the commands of a parent, each by the method of its name."""

    goes_on: ClassVar[frozenset[str]] = frozenset()
    """Commands that go on with the work before, within its limit of CPU."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def explain(self, error: Exception) -> bytes:
        """The answer for an error that a command met."""
        return FAULT + f"{type(error).__name__}: {error}".encode(errors="replace")


def main(handle: int, memory: int, seconds: int, servant: str) -> None:
    """Answers until the parent is gone; `seconds` are those of CPU that an answer may take."""
    connection = Connection(handle)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    threading.Thread(target=_end_with_parent, args=(handle,), daemon=True).start()
    module, _, name = servant.partition(":")
    serves: Servant = getattr(importlib.import_module(module), name)(connection)
    connection.send_bytes(END)
    while True:
        try:
            command = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if command[0] not in serves.goes_on:
            used = resource.getrusage(resource.RUSAGE_SELF)
            spent = int(used.ru_utime + used.ru_stime) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))
        _answer(serves, command)


def _end_with_parent(handle: int) -> None:
    """Ends the process once nobody holds the other end: a library may loop without end."""
    poll = select.poll()
    poll.register(handle, 0)  # a hang-up is told without being asked for
    poll.poll()
    os._exit(0)


def _answer(servant: Servant, command: list[Any]) -> None:
    try:
        getattr(servant, command[0])(*command[1:])
    except MemoryError:
        servant.connection.send_bytes(MEMORY)
    except Exception as e:
        servant.connection.send_bytes(servant.explain(e))


class ParentFile(io.RawIOBase):
    """A file whose bytes the parent reads."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection, self._size, self._at = connection, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        self._connection.send_bytes(READ + orjson.dumps([self._at, size]))
        data = self._connection.recv_bytes()
        self._at += len(data)
        return data
