"""Threads that carry batches to an endpoint and back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

_M_ARENA_MAX = -8  # of glibc's malloc.h


class Workers:
    """At most `most` threads, started as they are needed, that call `work` on what is put in.

    Results arrive in `done` as (task, result), or as (task, exception) where `work` raised. A
    thread of one's own costs less than a pool's future for each call, and lasts as long as the
    bundle.
    """

    def __init__(self, work: Callable[[Any], Any], most: int, done: SimpleQueue[Any]) -> None:
        self._work, self._most, self._done = work, most, done
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        self._threads = 0
        share_one_arena()

    def put(self, task: Any, under_way: int) -> None:
        """Hands over a task; `under_way` tells how many are not done yet, this one included."""
        if self._threads < min(under_way, self._most):
            self._start()
        self._tasks.put(task)

    def _start(self) -> None:
        args = (self._work, self._tasks, self._done)
        thread = threading.Thread(target=_loop, args=args, name="vecferry-embed", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process may have no more
            if not self._threads:
                raise
        else:
            self._threads += 1

    def close(self) -> list[Any]:
        """Lets the threads end, each after the task it is at; gives the tasks not begun."""
        dropped = []
        try:
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    dropped.append(task)
        except Empty:
            pass
        for _ in range(self._threads):
            self._tasks.put(None)
        self._threads = 0
        return dropped


@functools.cache
def share_one_arena() -> None:
    """Lets the threads of this process allocate from one place, where the C library is glibc.

    Else each has an arena of its own. Vectors are made in many threads and die in any order, which
    leaves holes in all arenas: 50 MB after a million rows. MALLOC_ARENA_MAX, where set, holds.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _loop(work: Callable[[Any], Any], tasks: SimpleQueue[Any], done: SimpleQueue[Any]) -> None:
    while (task := tasks.get()) is not None:
        try:
            result = work(task)
        except Exception as e:
            result = e
        except BaseException as e:  # a panic of a library in Rust; who waits must hear of it
            result = RuntimeError(f"{type(e).__name__}: {e}")
            result.__cause__ = e
        done.put((task, result))
