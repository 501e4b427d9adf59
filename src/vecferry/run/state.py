"""What is known of a run: counters, rejects, its first failure, and whether it is to stop."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Any

from vecferry.errors import redact
from vecferry.run.scope import run_scope

GRACE_ROWS = 1000
"""How many rows a failing run reads on, to show more than its first bad row."""


class RunStatus(ABC):
    """What a launcher asks about a run, whether its workers are here or elsewhere.

    Attributes:
      started: when the run began, as `time.monotonic` tells it.
      reject_limit: the most rejects that the job allows; None without a limit.
      stop: is set once the readers have been asked to stop.
      stopped_by: who asked the readers to stop first, such as ``interrupt``; else empty.
      failure: what a step failed with, in its own words; else empty.
      fatal: whether a second attempt would fail as well.
      passing: whether a later attempt may well pass, as a server was away.
      over_limit: whether more rejects were counted than `reject_limit` allows.
    """

    def __init__(self, reject_limit: int | None = None) -> None:
        self.started = time.monotonic()
        self.reject_limit = reject_limit
        self.stop = threading.Event()
        self.stopped_by = ""
        self.failure = ""
        self.fatal = False
        self.passing = False
        self.over_limit = False
        self._lock = threading.Lock()
        self._settled: dict[str, int] = {}
        self._settled_rejects: dict[tuple[str, str], int] | None = None

    @abstractmethod
    def counted(self) -> dict[str, int]:
        """The counters by name, as the workers counted."""

    @abstractmethod
    def rejected(self) -> dict[tuple[str, str], int]:
        """The rejects by (step, reason), as the workers counted."""

    @abstractmethod
    def samples(self, name: str) -> Counter[int]:
        """A distribution: how often each value was observed."""

    @abstractmethod
    def most(self, name: str) -> int:
        """The greatest value of a distribution, 0 without any."""

    @property
    def has_workers(self) -> bool:
        """Whether a worker has started."""
        return True

    def refresh(self, *, now: bool = False) -> None:
        """Takes in what remote workers reported; `now` reads at once."""
        return

    def request_stop(self, why: str) -> None:
        """Asks the readers of all workers to stop; rows that were read are finished."""
        self.end(why)

    def end(self, why: str) -> None:
        """Asks the readers of this process to stop; rows that were read are finished."""
        self.stopped_by = self.stopped_by or why
        self.stop.set()

    def fail(self, message: str, *, fatal: bool = False, passing: bool = False) -> None:
        """Keeps the first error of a step, whose own words a runner may bury.

        After a `fatal` error, another try is useless. After a `passing` error, one may pass.
        """
        if not self.failure or (fatal and not self.fatal):
            self.failure = redact(message)
            self.passing = passing
        self.fatal = self.fatal or fatal

    def counts(self) -> dict[str, int]:
        """The counters by name; settled counters keep their settled values."""
        return {**self.counted(), **self._settled}

    def rejects(self) -> dict[tuple[str, str], int]:
        """The rejects by (step, reason), settled or else counted."""
        settled = self._settled_rejects
        return self.rejected() if settled is None else dict(settled)

    def settle(self, counts: dict[str, int]) -> None:
        """Replaces the workers' counters, which may hold repeated work, by the runner's."""
        self._settled = counts

    def settle_rejects(self, rejects: dict[tuple[str, str], int]) -> None:
        """Replaces the rejects that were counted by the rejects that were written."""
        self._settled_rejects = rejects


class RunState(RunStatus):
    """What this process knows of one run: counters, distributions, rejects, the stop flag.

    A run on one machine is followed through this state. FnApiRunner tells nothing until a run is
    done, and nothing at all if the run fails.
    """

    def __init__(self, reject_limit: int | None = None) -> None:
        super().__init__(reject_limit)
        self._grace = GRACE_ROWS
        self._handed_out = 0
        self._counts: Counter[str] = Counter()
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._samples: dict[str, Counter[int]] = {}
        self._streams: Counter[str] = Counter()
        self._most_streams: Counter[str] = Counter()

    def add(self, counts: dict[str, int]) -> None:
        """Adds to the counters, by name."""
        with self._lock:
            self._counts.update(counts)

    def observe(self, samples: dict[str, list[int]]) -> None:
        """Adds samples to distributions, by name; keeps the first three digits of each."""
        with self._lock:
            for name, values in samples.items():
                kept = self._samples.setdefault(name, Counter())
                kept.update(v if v < 1000 else int(float(f"{v:.3g}")) for v in values)

    def reject(self, step: str, reason: str) -> None:
        """Counts a reject; past the limit, readers of this process hand out few more rows."""
        with self._lock:
            self._rejects[step, reason] += 1
            total = self._rejects.total()
        if self.reject_limit is not None and total > self.reject_limit:
            self.over_limit = True

    def unkept(self, rejects: Iterable[tuple[str, str]], why: str) -> None:
        """Counts rejects, by (step, reason), that could not be written: they are rejects no more.

        Readers of this process stop, since each further reject would be lost as well.
        """
        with self._lock:
            for reject in rejects:
                self._counts["rows-unkept"] += 1
                if self._rejects[reject] > 1:
                    self._rejects[reject] -= 1
                else:
                    del self._rejects[reject]
        self.fail(why)
        self.end("rejects")

    def goes_on(self) -> bool:
        """Counts a row handed out past the limit; False, and the end, after `GRACE_ROWS` rows."""
        with self._lock:
            self._grace -= 1
            left = self._grace
        if left <= 0:
            self.end("errorLimit")
        return left > 0

    def hand_out(self, limit: int) -> bool:
        """Counts a row handed out by a reader; False for the last one that `limit` allows."""
        with self._lock:
            self._handed_out += 1
            return self._handed_out < limit

    def counted(self) -> dict[str, int]:
        """A copy of the counters of this process."""
        with self._lock:
            return dict(self._counts)

    def samples(self, name: str) -> Counter[int]:
        """A copy of a distribution: how often each value was observed."""
        with self._lock:
            return Counter(self._samples.get(name))

    def rejected(self) -> dict[tuple[str, str], int]:
        """A copy of the rejects counted in this process."""
        with self._lock:
            return dict(self._rejects)

    def most(self, name: str) -> int:
        """The greatest value of a distribution, 0 without any."""
        return max(self.samples(name), default=0)

    def enter(self, step: str) -> None:
        """Counts a bundle of `step` that begins work in this process; `leave` follows."""
        with self._lock:
            self._streams[step] += 1
            self._most_streams[step] = max(self._most_streams[step], self._streams[step])

    def leave(self, step: str) -> None:
        """Ends what `enter` began."""
        with self._lock:
            self._streams[step] -= 1

    def share(self, step: str, streams: int) -> float:
        """This process's share, up to 1, of what `streams` bundles may use together."""
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
                "passing": self.passing,
                "stopped_by": self.stopped_by,
            }


def run_state(run: str, reject_limit: int | None = None) -> RunState:
    """The state of `run` in this process, made on first use with `reject_limit`.

    In a sync, the state of the round that is under way.
    """
    return run_scope(run).round.get("state", lambda: RunState(reject_limit))
