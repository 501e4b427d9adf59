"""Files that are read in a child process: what crashes the child costs one file, not the run.

A library in C may be ended by a signal, take all memory, or loop without end over a damaged file.
Then the child is `Lost`, and the next file gets a new one.

A process has as many children of a servant as it reads files at a time. A child starts when a file
is opened, and reads file after file until a run ends or its parent is gone. It opens no file
itself: it asks its parent for the bytes, since stores and their keys are the parent's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import IO, Literal

import orjson

from vecferry.io.files.formats import apart_child as child
from vecferry.process import PROCESS, RunScope

_BOOT = (
    "import sys; handle, memory, seconds, servant, *sys.path = sys.argv[1:]; "
    "from vecferry.io.files.formats.apart_child import main; "
    "main(int(handle), int(memory), int(seconds), servant)"
)


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Attributes:
      memory: bytes of address space.
      seconds: of CPU for one answer.
      silence: seconds without a word from it.
    """

    memory: int = 4 << 30
    seconds: int = 300
    silence: int = 600


class Lost(Exception):
    """A child that gives no answer any more.

    Attributes:
      how: a signal ended it, it was killed from outside, it ended itself, or it took too much.
      detail: the name of the signal, the exit status, the seconds or the bytes.
    """

    def __init__(
        self, how: Literal["crashed", "killed", "ended", "slow", "memory"], detail: int | str
    ) -> None:
        super().__init__(f"{how}: {detail}")
        self.how, self.detail = how, detail


class Unsound(Exception):
    """The file is not what the servant's library takes; the text is the library's."""


class Children:
    """The children of this process that serve by one class; safe for use by several threads.

    `servant` is a `vecferry.io.files.formats.apart_child.Servant`, as ``module:name``.
    """

    def __init__(self, servant: str, limits: Limits = Limits()) -> None:
        self.servant, self.limits = servant, limits
        self._lock = threading.Lock()
        self._idle: list[Child] = []

    def take(self) -> Child:
        """A child that reads nothing; it is given back."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Child(self.servant, self.limits)

    def give(self, one: Child) -> None:
        """Keeps a child for the next file; one that was left in the midst of an answer is ended."""
        if one.asked:
            one.end()
            return
        with self._lock:
            self._idle.append(one)

    def close(self) -> None:
        """Ends the children that read nothing."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.end()


def children_of(scope: RunScope, servant: str, limits: Limits = Limits()) -> Children:
    """The children of this process; those that are idle when the run of `scope` ends are ended."""
    key = ("files", "children", servant, limits)
    found: Children = scope.get(key, lambda: PROCESS.get(key, lambda: Children(servant, limits)))
    return found


class Child:
    """A child process. `asked` is True from a question to its answer, and for good after an error.

    Attributes:
      pid: the number of the process.
    """

    def __init__(self, servant: str, limits: Limits) -> None:
        self._limits, self.asked = limits, False
        self._connection, theirs = Pipe()
        told = (theirs.fileno(), limits.memory, limits.seconds, servant)
        # Its own session: Ctrl-C in a terminal is for the parent, which reads on to a good end.
        # The memory pool of the system takes no more address space than it fills.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *map(str, told), *filter(_is_text, sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
            )
        self.pid = self._process.pid
        with self._told():
            self._connection.recv_bytes()  # it is ready: only now its silence counts

    def ask(self, raw: IO[bytes], *command: object) -> tuple[bytes, bytes]:
        """The first byte and the rest of the answer; meanwhile the child may read from `raw`.

        Raises `Lost` where the child can't answer, and `Unsound` where its library can't.
        """
        self.asked = True
        with self._told():
            self._connection.send_bytes(orjson.dumps(command))
        while (answer := self._hear())[:1] == child.READ:
            offset, size = orjson.loads(answer[1:])
            raw.seek(offset)
            data = raw.read(size)
            with self._told():
                self._connection.send_bytes(data)
        kind, rest = answer[:1], answer[1:]
        if kind == child.UNSOUND:
            raise Unsound(rest.decode())
        if kind == child.MEMORY:
            raise Lost("memory", self._limits.memory)
        if kind == child.FAULT:
            raise RuntimeError(f"the process that reads the file met a fault: {rest.decode()}")
        if kind == child.BATCH:
            rest = self._hear()
        self.asked = False
        return kind, rest

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _hear(self) -> bytes:
        with self._told():
            if not self._connection.poll(self._limits.silence):
                self.end()
                raise Lost("slow", self._limits.silence)
            return self._connection.recv_bytes()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Lost where the child is gone."""
        try:
            yield
        except (EOFError, OSError) as e:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._limits.silence)
            self.end()
            raise self._lost(self._process.returncode) from e

    def _lost(self, status: int) -> Lost:
        if status == -signal.SIGXCPU:
            return Lost("slow", self._limits.seconds)
        if status == -signal.SIGKILL:
            return Lost("killed", "SIGKILL")
        if status < 0:
            return Lost("crashed", _signal(-status))
        return Lost("ended", status)


def _is_text(part: object) -> bool:
    return isinstance(part, str)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
