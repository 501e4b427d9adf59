"""Tables that misbehave as a library in C may; a child process reads them in tests."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa


class Unruly:
    """A table whose file says what happens: in opening it, or in reading its unit."""

    doubtful: frozenset[str] = frozenset()

    def __init__(self, raw: Any) -> None:
        self.what, _, when = raw.read().decode().partition(" ")
        self.names, self.units, self._raw = ["a"], 1, raw
        if when == "open":
            self._misbehave()

    def rows(self, unit: int) -> int:
        """As elsewhere."""
        return 3

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """Three nulls; or something else."""
        self._misbehave()
        yield pa.RecordBatch.from_arrays([pa.nulls(3)], names=["a"])  # a list imports pandas

    def _misbehave(self) -> None:
        if self.what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "exit":
            os._exit(3)
        elif self.what == "memory":
            self._kept = bytearray(3 << 30)
        elif self.what == "loop":
            while True:
                pass
        elif self.what == "reads":
            while True:
                self._raw.seek(0)
                self._raw.read(1)
        elif self.what == "sleep":
            threading.Event().wait()
        elif self.what == "fault":
            raise TypeError("ours")
        elif self.what == "unsound":
            raise pa.ArrowInvalid("no such thing")
