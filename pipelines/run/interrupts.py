"""What asks this process to end: Ctrl-C (SIGINT) and SIGTERM, which mean the same.

The first signal lets what has begun come to its end; the second ends the process at once. What the
first one does depends on where the process is:

- within `breakable` nothing has begun that must be finished, and `Interrupted` is raised;
- within `on_interrupt` a function is called, which asks whatever works to stop;
- elsewhere the signal is remembered, for whoever asks `told_to_end`.

A signal that the process was started to ignore, as a shell starts what is to run in the background,
stays ignored. Python runs signal handlers in its main thread only, so elsewhere nothing is caught.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Each of them is an order to end."""

GRACE_SECONDS = 1.0
"""How long a process that is to end at once may take to close what it has open."""

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The first signal came where nothing had begun that must be finished."""


@dataclass
class _Act:
    """What the first signal calls, and the second one, where that is not the end at once."""

    first: Callable[[], None]
    second: Callable[[], None] | None
    told: bool = False


class _Listener:
    """The signals of this process, while somebody listens to them."""

    def __init__(self, leave: Callable[[], None] | None) -> None:
        self.came = 0
        self.acts: list[_Act] = []
        self.breakable = [False]
        self.leave = leave
        self._before: dict[signal.Signals, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def install(self) -> None:
        """Takes the signals, also back from a library that has taken one in the meantime."""
        for one in SIGNALS:
            there = signal.getsignal(one)
            if there is signal.SIG_IGN or there == self._take:
                continue
            signal.signal(one, self._take)
            self._before.setdefault(one, signal.SIG_DFL if there is None else there)
        if self.leave is not None and self._pipe is None:
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            threading.Thread(
                target=self._see, args=(self._pipe[0], self.leave), name="signals", daemon=True
            ).start()

    def restore(self) -> None:
        """Gives the signals back to whoever had them."""
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # the thread sees the end, and closes its own
        for one, before in self._before.items():
            signal.signal(one, before)

    def _take(self, *_: Any) -> None:
        self.came += 1
        if self.came == 1:
            self.tell()
            if self.acts:
                return
            if self.breakable[-1]:
                raise Interrupted
            log.warning("interrupted: what has begun is finished; a second time ends at once")
            return
        second = self.acts[0].second if self.acts else None
        if second is None or self.came > 2:
            raise KeyboardInterrupt
        second()

    def tell(self) -> None:
        """Calls what is to be called at the first signal, once; the outermost knows the most."""
        if self.acts and not self.acts[0].told:
            self.acts[0].told = True
            self.acts[0].first()

    def _see(self, pipe: int, leave: Callable[[], None]) -> None:
        """Ends the process where the main thread can't: it may be within a call of a C library."""
        came = 0
        with os.fdopen(pipe, "rb", buffering=0) as signals:
            while True:
                many = came >= (3 if self.acts and self.acts[0].second is not None else 2)
                ready, _, _ = select.select([signals], [], [], GRACE_SECONDS if many else None)
                got = signals.read(16) if ready else b""
                if ready and not got:
                    return
                came += sum(1 for number in got or b"" if number in SIGNALS)
                if many:
                    leave()


_listener: _Listener | None = None


@contextmanager
def listening(leave: Callable[[], None] | None = None) -> Iterator[None]:
    """Within, signals are taken as the module says; where that is so already, nothing changes.

    The second signal raises KeyboardInterrupt. If the process is still there a moment later, or
    where a third signal comes, `leave` is called, which ends the process.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    listener = _Listener(leave)
    try:
        _listener = listener
        listener.install()
        yield
    finally:
        listener.restore()
        _listener = None


@contextmanager
def breakable(wanted: bool = True) -> Iterator[None]:
    """Within, the first signal raises `Interrupted`, also one that came before.

    With `wanted` False, within something that must be finished, the signal is remembered again.
    """
    listener = _mine()
    if listener is None:
        yield
        return
    listener.breakable.append(wanted)
    try:
        if wanted and told_to_end():
            raise Interrupted
        yield
    finally:
        listener.breakable.pop()


def hold() -> None:
    """From here on the first signal is remembered, but within a `breakable` that begins later."""
    listener = _mine()
    if listener is not None:
        listener.breakable = [False] * len(listener.breakable)


@contextmanager
def on_interrupt(
    act: Callable[[], None], again: Callable[[], None] | None = None
) -> Iterator[None]:
    """Within, the first signal calls `act`, once, also where the signal came before.

    The second one calls `again`, or else raises KeyboardInterrupt. Of several such contexts, one
    in another, only the outermost one is called. Both functions run in the main thread, between
    any two of its instructions: they may not wait.
    """
    with listening():
        listener = _mine()
        if listener is None:
            yield
            return
        listener.install()
        own = _Act(act, again)
        listener.acts.append(own)
        try:
            if listener.came:
                listener.tell()
            yield
        finally:
            listener.acts.remove(own)


def told_to_end() -> bool:
    """Whether a signal came, and nobody around the caller decides what it means."""
    return _listener is not None and _listener.came > 0 and not _listener.acts


def _mine() -> _Listener | None:
    here = threading.current_thread() is threading.main_thread()
    return _listener if here else None
