"""Connections that stay open, and which of their answers may be used.

HTTP/1.1 numbers neither requests nor answers. If a proxy sends an answer twice, each answer behind
it goes to the next request. So a connection serves on only while it keeps two rules. Nothing comes
behind an answer, and no answer repeats one that another request had.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from vecferry.transforms.embed.endpoints.connections import Connection, Opener, classify
from vecferry.transforms.embed.endpoints.http import (
    MAX_BODY,
    HttpAnswer,
    HttpError,
    HttpTarget,
    StrayError,
)

MOST_ANSWERS = 500
"""Answers of a connection: all are remembered, and a fault that shows late may concern them all."""
TOLD = 8
"""Requests that a StrayError names."""
SAMPLE = 256
_GOODBYE = re.compile(rb"HTTP/1\.[01] 408 ")
"""With this status some servers take leave of an idle connection."""

T = TypeVar("T")


class Pool:
    """Connections of urllib3 to the host of a target; an `Http`.

    Raises JobError if the environment names authorities that can't be read, or a proxy that can't
    be used.
    """

    def __init__(self, target: HttpTarget) -> None:
        self._opener = Opener(target)
        self._timeout, self._connections = target.timeout, target.connections
        self._idle: list[_Line] = []
        self._lock = threading.Lock()
        self._told = False

    def send(
        self,
        body: bytes,
        read: Callable[[HttpAnswer], T],
        *,
        bound: int = MAX_BODY,
        about: str = "",
    ) -> T:
        """What `read` makes of the answer to `body`."""
        deadline = time.monotonic() + self._timeout
        line = self._take() or _Line(self._open(deadline))
        try:
            result = self._ask(line, body, read, deadline, bound)
        except BaseException:
            line.connection.close()
            raise
        line.note(about)
        self._keep(line)
        return result

    def reach(self) -> None:
        """Opens a connection and closes it."""
        self._open(time.monotonic() + self._timeout).close()

    def settle(self) -> None:
        """Raises StrayError if something came over a connection that is not in use."""
        with self._lock:
            strays = [(line, found) for line in self._idle if (found := line.unasked())]
            self._idle = [line for line in self._idle if not line.ended]
        for line, _ in strays:
            line.connection.close()
        for line, found in strays[:1]:
            self._tell(line, found)

    def close(self) -> None:
        """Closes the connections that are not in use."""
        told = self._told
        try:
            self.settle()
        except StrayError:
            if not told:
                raise
        finally:
            with self._lock:
                idle, self._idle = self._idle, []
            for line in idle:
                line.connection.close()

    def _open(self, deadline: float) -> Connection:
        try:
            return self._opener.open(deadline)
        except Exception as e:
            raise classify(e) from e

    def _take(self) -> _Line | None:
        """A connection on which nothing has come: one that the server closed is not used again."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                line = self._idle.pop()
            found = line.unasked()
            if not line.ended:
                return line
            line.connection.close()
            if found:
                self._tell(line, found)

    def _ask(
        self,
        line: _Line,
        body: bytes,
        read: Callable[[HttpAnswer], T],
        deadline: float,
        bound: int,
    ) -> T:
        opener = self._opener
        try:
            answer: HttpAnswer = line.connection.exchange(
                opener.path, body, opener.headers, deadline, bound
            )
        except Exception as e:
            raise classify(e) from e
        line.require_new(body, answer.data)
        try:
            return read(answer)
        finally:  # what came meanwhile counts as well
            if found := line.unasked():
                raise HttpError(f"bytes that nobody asked for came behind an answer: {found!r}")

    def _keep(self, line: _Line) -> None:
        if not line.ended and len(line.answers) < MOST_ANSWERS:
            with self._lock:
                if len(self._idle) < self._connections:
                    self._idle.append(line)
                    return
        line.connection.close()

    def _tell(self, line: _Line, found: bytes) -> None:
        self._told = True
        raise StrayError(line.story(found))


class _Line:
    """A connection, and what its answers were."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended = False
        self.answers: dict[int, int] = {}
        self._count, self._since = 0, time.time()
        self._about: deque[str] = deque(maxlen=TOLD)

    def unasked(self) -> bytes:
        """What came behind the last answer, as far as it is there; notes if no more can come."""
        feed, sock = self.connection.feed, self.connection.sock
        found: bytes = feed.left_over[:SAMPLE] if feed is not None else b""
        if not found and sock is not None:
            try:
                sock.settimeout(0)
                found = sock.recv(SAMPLE) or b""  # TLS within TLS gives 0 at its end
            except (BlockingIOError, ssl.SSLWantReadError):
                return b""
            except OSError:
                pass
        self.ended = True
        return b"" if _GOODBYE.match(found) else found

    def note(self, about: str) -> None:
        """Remembers that an answer was used."""
        self._count += 1
        if about:
            self._about.append(about)

    def require_new(self, body: bytes, data: bytes | bytearray) -> None:
        """Raises HttpError if the connection gave another request the same answer."""
        request = hash(body)
        if self.answers.setdefault(fingerprint(data), request) != request:
            raise HttpError("an answer came twice, for different requests")

    def story(self, found: bytes) -> str:
        """What came, and which answers it makes doubtful."""
        since, now = (datetime.fromtimestamp(at, UTC) for at in (self._since, time.time()))
        last = f", the last ones to {'; '.join(self._about)}" if self._about else ""
        return (
            f"the server, or a proxy before it, sent what nobody asked for ({found[:60]!r}) over a "
            f"connection that gave {self._count} answers from {since:%H:%M:%S} to "
            f"{now:%H:%M:%S} UTC{last}; any of them may be the answer to another request"
        )


def fingerprint(data: bytes | bytearray) -> int:
    """The same number for the same bytes; of many bytes some in the middle stand for all."""
    size = len(data)
    if size <= 8 * SAMPLE:
        return hash(bytes(data))
    return hash(b"".join(data[at : at + SAMPLE] for at in (size // 4, size // 2, size * 3 // 4)))
