"""Tables that are read in a child process: what crashes the child costs one file, not the run.

A library in C may be ended by a signal, take all memory, or loop without end over a damaged file.
Such a file is `Damaged` here, as others that can't be read, and the next file gets a new child.

A process has as many children as it reads files at a time. A child starts when a file is opened,
and reads file after file until a run ends or its parent is gone. It opens no file itself: it asks
its parent for the bytes, since stores and their keys are the parent's.
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
from typing import IO, Any

import orjson
import pyarrow as pa

from vecferry.io.files.formats import apart_child as child
from vecferry.io.files.formats.unpack import Damaged
from vecferry.process import PROCESS, RunScope

_KEY = ("files", "children that read tables")
_BOOT = (
    "import sys; handle, memory, seconds, *sys.path = sys.argv[1:]; "
    "from vecferry.io.files.formats.apart_child import main; "
    "main(int(handle), int(memory), int(seconds))"
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


class Children:
    """The children of this process; safe for use by several threads."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._idle: list[Child] = []

    def take(self) -> Child:
        """A child that reads nothing; it is given back."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Child(self.limits)

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


def children_of(scope: RunScope) -> Children:
    """The children of this process; those that are idle when the run of `scope` ends are ended."""
    found: Children = scope.get(_KEY, lambda: PROCESS.get(_KEY, Children))
    return found


class Child:
    """A child process. `asked` is True from a question to its answer, and for good after an error.

    Attributes:
      pid: the number of the process.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self.asked = limits, False
        self._connection, theirs = Pipe()
        numbers = (theirs.fileno(), limits.memory, limits.seconds)
        # Its own session: Ctrl-C in a terminal is for the parent, which reads on to a good end.
        # The memory pool of the system takes no more address space than it fills.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *map(str, numbers), *filter(_is_text, sys.path)],
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

        Raises `Damaged` where the child can't answer, and pyarrow's error where its library can't.
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
            raise pa.ArrowInvalid(rest.decode())
        if kind == child.MEMORY:
            raise Damaged(self._too_large())
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
                raise Damaged(self._too_slow(self._limits.silence))
            return self._connection.recv_bytes()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Damaged where the child is gone."""
        try:
            yield
        except (EOFError, OSError) as e:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._limits.silence)
            self.end()
            raise Damaged(self._ended(self._process.returncode)) from e

    def _ended(self, status: int) -> str:
        if status == -signal.SIGXCPU:
            return self._too_slow(self._limits.seconds)
        if status == -signal.SIGKILL:
            return (
                "can't be read: the process that read it was killed, perhaps for lack of memory; "
                "give the job more memory, or write the file in smaller parts"
            )
        if status < 0:
            return (
                f"is damaged: pyarrow {pa.__version__} crashed in reading it "
                f"({_signal(-status)}); write it anew"
            )
        return (
            "can't be read: the process that reads it ended early "
            f"(exit status {status}); run the job again, and report this if it comes again"
        )

    def _too_slow(self, seconds: int) -> str:
        return f"can't be read: its library came to no end in {seconds} s; write it anew"

    def _too_large(self) -> str:
        return (
            f"can't be read: it needs more than {self._limits.memory >> 20:,} MiB of memory at "
            "once; write it in smaller parts"
        )


class ApartTable:
    """A table that a child reads; see `vecferry.io.files.formats.columnar.Table`.

    `kind` is the table's class, as ``module:name``; `raw` an open file.
    """

    def __init__(self, children: Children, kind: str, raw: IO[bytes]) -> None:
        self._children, self._raw = children, raw
        raw.seek(0, os.SEEK_END)
        size = raw.tell()
        self._child: Child | None = children.take()
        try:
            _, about = self._child.ask(raw, "open", kind, size)
        except BaseException:
            self.close()
            raise
        told = orjson.loads(about)
        self.names: list[str] = told["names"]
        self.units: int = told["units"]
        self.doubtful = frozenset(told["doubtful"])
        self._rows: list[int] = told["rows"]

    def rows(self, unit: int) -> int:
        """How many rows the unit has; 0 where that is not known before it has been read."""
        return self._rows[unit]

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """The unit's rows as batches of about a megabyte."""
        assert self._child is not None
        _, told = self._child.ask(self._raw, "unit", unit, names)
        self._rows[unit] = int.from_bytes(told[:8], "big")
        if not told[8:]:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(told[8:]))
        while (answer := self._child.ask(self._raw, "next"))[0] == child.BATCH:
            yield pa.ipc.read_record_batch(pa.py_buffer(answer[1]), schema)

    def close(self) -> None:
        """Lets the child go, to read another file."""
        one, self._child = self._child, None
        if one is None:
            return
        if not one.asked:
            with contextlib.suppress(Damaged):  # what was read before is whole
                one.ask(self._raw, "close")
        self._children.give(one)


def _is_text(part: object) -> bool:
    return isinstance(part, str)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
