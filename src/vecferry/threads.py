"""One pool of daemon threads for everything that waits for a server: batches, requests, images."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK = "look"
"""The name of a thread that looks at a data source. It may be left behind."""

_M_ARENA_MAX = -8  # of glibc's malloc.h


class DaemonPool(Generic[T]):
    """At most `most` daemon threads, started as tasks come; each calls `work` on a task.

    `work` reports the outcome of the task, errors included, to whoever waits; `work` does not
    raise. These threads never keep a process from ending, unlike the threads of an executor. If a
    process ends, a batch that waits for a server is given up, and comes again with the next run.
    """

    def __init__(self, work: Callable[[T], object], most: int, name: str) -> None:
        self.most, self.name = most, name
        self._work = work
        self._tasks: SimpleQueue[T | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0  # tasks that wait or are being worked on
        self._threads = 0

    def put(self, task: T) -> None:
        """Gives `task` to the next free thread; a task is never None.

        Raises RuntimeError if the process may not start a thread and the pool has none yet.
        """
        with self._lock:
            if self._pending >= self._threads and self._threads < self.most:
                self._start()
            self._pending += 1
        self._tasks.put(task)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._loop, name=self.name, daemon=True).start()
        except RuntimeError:  # the process may have no more
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._work(task)
            except BaseException:  # the thread must live, or later tasks would wait for ever
                log.exception("%s: a task failed without telling who waits for it", self.name)
            del task  # or the last batch would live until the next one comes
            with self._lock:
                self._pending -= 1

    def drop(self) -> list[T]:
        """Takes back the tasks that are not begun."""
        dropped: list[T] = []
        with contextlib.suppress(Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    dropped.append(task)
        with self._lock:
            self._pending -= len(dropped)
        return dropped

    def close(self) -> None:
        """Lets the threads end after all tasks that were put before."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._tasks.put(None)


def raisable(e: BaseException) -> Exception:
    """`e`, or for a panic of a library in Rust, which is not an Exception, an error that tells it.

    A thread hands an error over in this form, so that whoever waits for the thread can raise it.
    """
    if isinstance(e, Exception):
        return e
    error = RuntimeError(f"{type(e).__name__}: {e}")
    error.__cause__ = e
    return error


@functools.cache
def share_one_arena() -> None:
    """Lets the threads of this process allocate from one arena, if the C library is glibc.

    Otherwise each thread has an arena of its own. Vectors are made in many threads and die in any
    order, which leaves holes in all arenas: 50 MB after a million rows. If MALLOC_ARENA_MAX is set,
    nothing changes.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
