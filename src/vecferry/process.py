"""What must be one per worker process: clients, caches, limits, and the state of a run.

Bundles and DoFn instances come and go, on Flink dozens of times a minute; what is made here stays.
Beam's own ``Shared`` keeps only what was acquired last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from vecferry.errors import redact

T = TypeVar("T")

GRACE_ROWS = 1000
"""A failing run reads on so far, to show more than its first bad row."""


class Scope:
    """Objects that are made once and shared by all threads, until the scope is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Hashable, tuple[threading.Lock, list[Any]]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object made under `key`; `make` is called the first time only.

        Two threads that ask for different keys do not wait for each other. A `make` that raises
        leaves nothing behind: the next caller tries again.
        """
        with self._lock:
            lock, box = self._made.setdefault(key, (threading.Lock(), []))
        with lock:
            if not box:
                box.append(make())
            return box[0]  # type: ignore[no-any-return]

    def take(self, wanted: Callable[[Hashable], bool] = lambda key: True) -> list[Any]:
        """Removes the objects whose keys are `wanted`, and returns them, to be closed."""
        with self._lock:
            keys = [k for k in self._made if wanted(k)]
            return [self._made.pop(k)[1][0] for k in keys if self._made[k][1]]

    def close(self) -> None:
        """Removes all objects, and closes those that can be closed."""
        for made in self.take():
            close = getattr(made, "close", None)
            if callable(close):
                close()


PROCESS = Scope()
"""What outlives runs: tokenizers, clients of object stores. Keys start with the owner's name."""

_RUNS = Scope()


class RunScope(Scope):
    """What one run has made in this process: clients, stores, caches; closed when the run ends."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def note_once(self, logger: logging.Logger, step: str, text: str) -> bool:
        """Logs a warning about a step, the first time only; True where it did."""
        noted = False

        def note() -> bool:
            nonlocal noted
            logger.warning("step %r: %s", step, text)
            noted = True
            return True

        self.get(("note", step, text), note)
        return noted


def run_scope(run: str) -> RunScope:
    """The scope of `run` in this process, made on first use."""
    return _RUNS.get(run, lambda: RunScope(run))


def once(key: Hashable, make: Callable[[], T]) -> T:
    """The object made under `key` in this process; see `Scope.get`."""
    return PROCESS.get(key, make)


def forget(run: str) -> list[Any]:
    """Forgets everything whose key is a tuple that holds `run`, and returns it, to be closed."""
    return PROCESS.take(lambda key: isinstance(key, tuple) and run in key)


def end_run(run: str) -> None:
    """Forgets what belongs to `run` and closes what can be closed: clients, caches, files."""
    for scope in _RUNS.take(lambda key: key == run):
        scope.close()
    for made in forget(run):
        close = getattr(made, "close", None)
        if callable(close):
            close()


class RunState:
    """What this process knows of one run: counters, distributions, rejects, the stop flag.

    A run on one machine is followed through it, because FnApiRunner tells nothing until it is
    done, and nothing at all where it failed.
    """

    def __init__(self, reject_limit: int | None = None) -> None:
        self.started = time.monotonic()
        self.reject_limit = reject_limit
        self.stop = threading.Event()
        self.stopped_by = ""
        self.failure = ""
        self.fatal = False
        self.over_limit = False
        self._grace = GRACE_ROWS
        self._handed_out = 0
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._samples: dict[str, Counter[int]] = {}
        self._streams: Counter[str] = Counter()
        self._most_streams: Counter[str] = Counter()
        self._settled: dict[str, int] = {}
        self._settled_rejects: dict[tuple[str, str], int] | None = None

    def add(self, counts: dict[str, int]) -> None:
        """Adds to the counters, by name."""
        with self._lock:
            self._counts.update(counts)

    def observe(self, samples: dict[str, list[int]]) -> None:
        """Adds samples to the distributions, by name; of each the first three digits are kept."""
        with self._lock:
            for name, values in samples.items():
                kept = self._samples.setdefault(name, Counter())
                kept.update(v if v < 1000 else int(float(f"{v:.3g}")) for v in values)

    def reject(self, step: str, reason: str) -> None:
        """Counts a reject; past the limit the readers of this process hand out few more rows."""
        with self._lock:
            self._rejects[step, reason] += 1
            total = self._rejects.total()
        if self.reject_limit is not None and total > self.reject_limit:
            self.over_limit = True

    def goes_on(self) -> bool:
        """Counts a row handed out past the limit; after `GRACE_ROWS` of them False, and the end."""
        with self._lock:
            self._grace -= 1
            left = self._grace
        if left <= 0:
            self.end("errorLimit")
        return left > 0

    def end(self, why: str) -> None:
        """Asks the readers to stop handing out rows; what was read is finished."""
        self.stopped_by = self.stopped_by or why
        self.stop.set()

    def fail(self, message: str, *, fatal: bool = False) -> None:
        """Keeps the first error of a step, whose own words a runner may bury.

        After a `fatal` one it is of no use to try again.
        """
        if not self.failure or (fatal and not self.fatal):
            self.failure = redact(message)
        self.fatal = self.fatal or fatal

    def hand_out(self, limit: int) -> bool:
        """Counts a row handed out by a reader; False for the last one that `limit` allows."""
        with self._lock:
            self._handed_out += 1
            return self._handed_out < limit

    def counts(self) -> dict[str, int]:
        """A copy of the counters; those that were settled are as they were settled."""
        with self._lock:
            return {**self._counts, **self._settled}

    def samples(self, name: str) -> Counter[int]:
        """A copy of a distribution: how often each value was observed."""
        with self._lock:
            return Counter(self._samples.get(name))

    def rejects(self) -> dict[tuple[str, str], int]:
        """A copy of the rejects counted, by (step, reason)."""
        with self._lock:
            known = self._settled_rejects
            return dict(self._rejects if known is None else known)

    def settle(self, counts: dict[str, int]) -> None:
        """Takes the runner's counters for those of this process, which may hold repeated work."""
        with self._lock:
            self._settled = counts

    def settle_rejects(self, rejects: dict[tuple[str, str], int]) -> None:
        """Takes the rejects that were written for those that were counted."""
        with self._lock:
            self._settled_rejects = rejects

    def most(self, name: str) -> int:
        """The greatest value of a distribution, 0 without any."""
        return max(self.samples(name), default=0)

    def enter(self, step: str) -> None:
        """Counts a bundle of `step` that has begun to work in this process; `leave` follows."""
        with self._lock:
            self._streams[step] += 1
            self._most_streams[step] = max(self._most_streams[step], self._streams[step])

    def leave(self, step: str) -> None:
        """Ends what `enter` began."""
        with self._lock:
            self._streams[step] -= 1

    def share(self, step: str, streams: int) -> float:
        """This process's share of what `streams` bundles of the run may use together, up to 1."""
        return min(1.0, max(1, self._most_streams[step]) / streams)

    def tally(self) -> dict[str, Any]:
        """Everything counted here, and what went wrong, as values of JSON."""
        with self._lock:
            return {
                "counts": dict(self._counts),
                "rejects": [[step, reason, n] for (step, reason), n in self._rejects.items()],
                "samples": {
                    name: {str(value): n for value, n in samples.items()}
                    for name, samples in self._samples.items()
                },
                "failure": self.failure,
                "fatal": self.fatal,
                "stopped_by": self.stopped_by,
            }


def run_state(run: str, reject_limit: int | None = None) -> RunState:
    """The state of `run` in this process, made on first use with `reject_limit`."""
    return once(("run", run), lambda: RunState(reject_limit))
