"""A worker process's end of the pipe to the launcher of its run, on one machine.

Stands apart from `vecferry.run.channel` because a pipe needs no folder, tells at once, and ends
with either process. Messages are tuples, and the first item says what each is:

| from the worker | |
|---|---|
| ``split`` | asks for the next split; the answer is a pickled split, or None |
| ``grant``, amounts | asks for a part of the budget; the answer is amounts or None |
| ``tally``, dict | what was counted so far, as `RunState.tally` has it |
| ``log``, dict | a record of the log |
| ``took`` | a block of rows that the launcher had dealt is worked on: there is room for another |
| ``made``, bytes, rows | a block of rows that the launcher writes, and how many they are |
| ``end``, error, keys | the graph came to its end, or failed; the sketch of the keys it wrote |

| from the launcher | |
|---|---|
| ``answer``, value | to the question that was asked last |
| ``graph``, bytes, options | what is to be run |
| ``rows``, bytes | a block of rows that this worker is to work on; None behind the last one |
| ``took`` | a block that this worker has made is being written: there is room for another |
| ``stop``, why, give up | as `RunStatus.request_stop` |
| ``over`` | all workers together have more rejects than the job allows |
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from vecferry.redaction import RedactingFilter
from vecferry.rows import Change
from vecferry.run.blocks import unpack
from vecferry.run.scope import run_scope
from vecferry.run.state import RunState

TELL_SECONDS = 0.2
"""How often a worker tells what it has counted, if that has changed."""
ORPHANED = 4
"""The exit status of a worker whose launcher is gone."""
BLOCKS = 2
"""How many blocks of rows may wait at the other end of the pipe."""

if TYPE_CHECKING:
    Connected = Connection[Any, Any]
else:
    Connected = Connection


class Link:
    """Asks the launcher, tells it what is counted, and does what it says; for any thread."""

    def __init__(self, connection: Connected, state: RunState) -> None:
        self._connection, self._state = connection, state
        self._sending, self._asking = threading.Lock(), threading.Lock()
        self._telling = threading.Lock()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(BLOCKS)
        self._last: dict[str, Any] = {}
        self._ended = threading.Event()
        for work in (self._listen, self._tell_on):
            threading.Thread(target=work, name="vecferry-link", daemon=True).start()

    def send(self, *message: object) -> None:
        """Sends a message. A launcher that is gone ends this process."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            leave()

    def graph(self) -> tuple[bytes, tuple[str, ...]]:
        """What is to be run, and the options of Beam; waits for it."""
        graph, options = self._answers.get()
        return graph, options

    def next_split(self) -> tuple[Any] | None:
        """The next split that nobody reads yet, in a tuple; None if there is none left."""
        packed: bytes | None = self._ask("split")
        return None if packed is None else (pickle.loads(packed),)

    def grant(self, short: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """A part of the budget, at least `short`; None if that is not left."""
        found: tuple[int, int, int] | None = self._ask("grant", short)
        return found

    def rows(self) -> Iterator[Change]:
        """The rows that the launcher deals to this worker, to the last one."""
        while (packed := self._blocks.get()) is not None:
            self.send("took")
            yield from unpack(packed)

    def hand_over(self, packed: bytes, rows: int) -> None:
        """Hands a block of rows to the launcher, which writes them; waits where it is slower."""
        self._room.acquire()
        self.send("made", packed, rows)

    def _ask(self, *question: Any) -> Any:
        with self._asking:
            self.send(*question)
            return self._answers.get()

    def tell(self) -> None:
        """Tells what was counted, if that has changed."""
        with self._telling:  # an older tally must not come last
            tally = self._state.tally()
            if tally != self._last:
                self._last = tally
                self.send("tally", tally)

    def end(self, error: str | None) -> None:
        """Tells the last of it; the launcher expects nothing more."""
        self._ended.set()
        self.tell()
        keys = self._state.keys_told(0)
        self.send("end", error, None if keys is None else keys[1])

    def _tell_on(self) -> None:
        while not self._ended.wait(TELL_SECONDS):
            self.tell()

    def _listen(self) -> None:
        state = self._state
        while True:
            try:
                kind, *values = self._connection.recv()
            except (EOFError, OSError):
                if self._ended.is_set():
                    return
                leave()
            if kind == "answer":
                self._answers.put(values[0])
            elif kind == "graph":
                self._answers.put(values)
            elif kind == "rows":
                self._blocks.put(values[0])
            elif kind == "took":
                self._room.release()
            elif kind == "over":
                state.over_limit = True
            elif kind == "stop":
                why, give_up = values
                state.end(why)
                if give_up:
                    state.giving_up.soon()


class LinkHandler(logging.Handler):
    """Hands the log of this process to the launcher, which shows it as its own."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send
        self.addFilter(RedactingFilter())

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, its text complete and without secrets."""
        told = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        self._send("log", {**told, "msg": record.getMessage(), "exc_text": record.exc_text})


def link_of(run: str) -> Link | None:
    """This process's link to the launcher of a run; None where this process is the launcher."""
    found: Link | None = run_scope(run).get("link", lambda: None)
    return found


def leave() -> None:
    """Ends this process at once, whatever its threads do: nobody waits for it any more."""
    os._exit(ORPHANED)
