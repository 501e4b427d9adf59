"""Long work of a target, done by a thread of its own while the launcher tells how far it is.

Apart from `vecferry.io.sink.target` because a store's own modules build their indexes by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often it is looked at."""


class _Work(threading.Thread, Generic[T]):
    """A daemon, so that work which can't be broken off never keeps the process from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="index", daemon=True)
        self._work = work
        self.done: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Never raises; `error` is what the work raised."""
        try:
            self.done.append(self._work())
        except BaseException as e:
            self.error = e


def followed(
    work: Callable[[], T], look: Callable[[], None], stop: Callable[[], None], grace: float = 10.0
) -> T:
    """What `work` gives or raises; `look` is called a few times a second meanwhile.

    What `look` raises is raised, after `stop` was called and the work had `grace` seconds to end.
    """
    thread = _Work(work)
    thread.start()
    wait = 0.01
    try:
        while True:
            thread.join(wait)
            if not thread.is_alive():
                break
            look()
            wait = min(2 * wait, LOOK_SECONDS)
    except BaseException:
        stop()
        thread.join(grace)
        raise
    if thread.error is not None:
        raise thread.error
    return thread.done[0]
