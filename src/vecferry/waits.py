"""What this process waits for: calls that failed and are tried again, requests without an answer.

Whoever calls a server says so here, and whoever tells of a run asks here. There is one list for a
process, `WAITS`, since code that opens a file or a table knows of no run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vecferry.redaction import redact, shorten

SILENT_SECONDS = 5.0
"""A request that is without an answer for so long is waited for."""
SILENT_TIMES = 3.0
"""… unless an answer took a good part of that before: some models are slow."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A server that somebody waits for.

    Attributes:
      who: who waits, such as ``step 'Embed'``.
      why: what the server last said, or that it says nothing.
      since: the first failure, as `time.time` tells it.
      until: when the waiting ends; None where it does not end by itself, or nobody knows.
      tries: how many tries have failed; 0 where the first has no answer yet.
    """

    who: str
    why: str
    since: float
    until: float | None
    tries: int

    def text(self, now: float) -> str:
        """``step 'Embed': http://… answers 502; 4 tries, giving up in 9 min 50 s``."""
        told = f"{self.who}: {self.why}"
        if self.tries:
            told += f"; {self.tries} {'try' if self.tries == 1 else 'tries'}"
        else:
            told += f"; no answer for {in_words(now - self.since)}"
        if self.until is not None:
            told += f", giving up in {in_words(self.until - now)}"
        return told


def in_words(seconds: float) -> str:
    """``9 min 50 s``, ``12 s`` or ``2 h 5 min``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


@dataclass(slots=True)
class _Request:
    run: str
    who: str
    where: str
    began: float
    until: float | None


class _Thread(threading.local):
    """Whether this thread keeps its waits to itself."""

    quiet = False


class Waits:
    """What is waited for in this process; for any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failing: dict[Hashable, tuple[str, Wait]] = {}
        self._requests: dict[int, _Request] = {}
        self._number = 0
        self._thread = _Thread()
        self._longest: dict[tuple[str, str], float] = {}

    def keep_quiet(self) -> None:
        """Tells nothing more of what this thread waits for: nobody may wait for its end."""
        self._thread.quiet = True

    def failed(
        self,
        call: Hashable,
        who: str,
        error: object,
        *,
        tries: int,
        left: float | None,
        run: str = "",
    ) -> None:
        """A try of `call` has failed and is repeated, for `left` seconds at most; `over` follows.

        The first failure of a call counts as its begin. `run` is empty where nobody knows it.
        """
        if self._thread.quiet:
            return
        now, why = self._clock(), redact(shorten(error, 300)).removeprefix(f"{who}: ")
        with self._lock:
            known = self._failing.get(call)
            since = now if known is None else known[1].since
            until = None if left is None else now + left
            self._failing[call] = run, Wait(who, why, since, until, tries)

    def over(self, call: Hashable) -> None:
        """A call has passed, or was given up."""
        if self._failing:
            with self._lock:
                self._failing.pop(call, None)

    @contextmanager
    def request(
        self, who: str, where: str, run: str, timeout: float | None = None
    ) -> Iterator[None]:
        """Within, a request to `where` is under way, for `timeout` seconds at most."""
        if self._thread.quiet:
            yield
            return
        began = self._clock()
        with self._lock:
            self._number += 1
            number = self._number
            until = None if timeout is None else began + timeout
            self._requests[number] = _Request(run, who, where, began, until)
        try:
            yield
        except BaseException:
            with self._lock:
                del self._requests[number]
            raise
        with self._lock:
            del self._requests[number]
            took = self._clock() - began
            if took > self._longest.get((run, who), 0.0):
                self._longest[run, who] = took

    def longest(self, run: str, who: str) -> float:
        """How many seconds the slowest answer took that `who` has got in a run."""
        return self._longest.get((run, who), 0.0)

    def forget(self, run: str) -> None:
        """Forgets what belongs to a run that is over."""
        with self._lock:
            self._longest = {key: n for key, n in self._longest.items() if key[0] != run}
            self._failing = {c: (r, w) for c, (r, w) in self._failing.items() if r != run}

    def of(self, run: str) -> list[Wait]:
        """What `run` waits for, one for each who; also what is waited for without a run's name."""
        with self._lock:
            failing = [wait for of, wait in self._failing.values() if of in ("", run)]
            silent = [one for one in self._requests.values() if one.run == run]
        told = {wait.who: wait for wait in merged(failing)}
        now = self._clock()
        for one in silent:
            patience = max(SILENT_SECONDS, SILENT_TIMES * self.longest(run, one.who))
            if now - one.began >= patience:
                known = told.get(one.who)
                if known is None or (not known.tries and one.began < known.since):
                    told[one.who] = Wait(one.who, one.where, one.began, one.until, 0)
        return list(told.values())


def merged(waits: Iterable[Wait]) -> list[Wait]:
    """Waits, of several processes perhaps, as one for each who.

    It has the first begin, the last word and the most tries.
    """
    found: dict[str, Wait] = {}
    for wait in waits:
        other = found.get(wait.who)
        if other is None:
            found[wait.who] = wait
            continue
        ends = [w.until for w in (other, wait) if w.until is not None]
        found[wait.who] = Wait(
            wait.who,
            wait.why,
            min(other.since, wait.since),
            min(ends) if ends else None,
            max(other.tries, wait.tries),
        )
    return list(found.values())


WAITS = Waits()
"""What this process waits for."""
