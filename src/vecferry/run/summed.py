"""What the worker processes of a run have told, added up; the launcher's view of any such run.

Apart from `vecferry.run.channel` because workers tell through a folder on a cluster, and through
pipes on one machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vecferry.run.state import RunStatus
from vecferry.waits import WAITS, Wait, merged

if TYPE_CHECKING:
    from vecferry.distinct import KeyCount


class SummedState(RunStatus):
    """The sums of what the worker processes of a run told last, each by its name."""

    def __init__(self, reject_limit: int | None = None) -> None:
        super().__init__(reject_limit)
        self._tallies: dict[str, dict[str, Any]] = {}
        self._keys: KeyCount | None = None

    @property
    def workers(self) -> int:
        """How many worker processes have reported."""
        return len(self._tallies)

    @property
    def has_workers(self) -> bool:
        """Whether a worker has reported."""
        return self.workers > 0

    def take(self, tallies: dict[str, dict[str, Any]]) -> None:
        """Takes in what workers tell (`RunState.tally`), by their names; keeps the first error."""
        self._tallies.update(tallies)
        for tally in self._told():
            if tally.get("failure"):
                fatal, passing = bool(tally.get("fatal")), bool(tally.get("passing"))
                anew = bool(tally.get("anew"))
                self.fail(tally["failure"], fatal=fatal, passing=passing, anew=anew)
            if tally.get("stopped_by"):
                self.stopped_by = self.stopped_by or tally["stopped_by"]
        rejected = sum(self.rejects().values())
        if self.reject_limit is not None and rejected > self.reject_limit:
            self.over_limit = True

    def count_keys(self, sketches: Iterable[bytes]) -> None:
        """Takes in the keys that all workers have written, unless none did."""
        from vecferry.distinct import count_all

        if self.counted().get("rows-keyed"):
            self._keys = count_all(sketches)

    def keys(self) -> KeyCount | None:
        """How many distinct keys all workers have written; None if some have not told theirs."""
        told, all_ = self.counted().get("rows-keyed", 0), self.counts().get("rows-keyed", 0)
        return self._keys if told >= all_ else None

    def counted(self) -> dict[str, int]:
        """The counters of all workers together."""
        return self._sum(tally.get("counts", {}) for tally in self._told())

    def rejected(self) -> dict[tuple[str, str], int]:
        """The rejects of all workers together."""
        total: Counter[tuple[str, str]] = Counter()
        for tally in self._told():
            for step, reason, rows in tally.get("rejects", []):
                total[step, reason] += rows
        return dict(total)

    @property
    def in_flight(self) -> int:
        """The requests under way that the workers told of last."""
        return sum(tally.get("in_flight", 0) for tally in self._told())

    def waits(self) -> list[Wait]:
        """The servers that the workers told of last, and those that this process waits for."""
        told = [Wait(**wait) for tally in self._told() for wait in tally.get("waits", [])]
        return merged([*told, *WAITS.of("")])

    def samples(self, name: str) -> Counter[int]:
        """A distribution over all workers."""
        total = self._sum(self._samples(name))
        return Counter({int(value): n for value, n in total.items()})

    def most(self, name: str) -> int:
        """The sum over the workers of the greatest value of a distribution."""
        return sum(max(map(int, samples), default=0) for samples in self._samples(name))

    def _samples(self, name: str) -> list[dict[str, int]]:
        return [tally.get("samples", {}).get(name, {}) for tally in self._told()]

    def _told(self) -> list[dict[str, Any]]:
        return list(self._tallies.values())

    @staticmethod
    def _sum(parts: Iterable[dict[str, int]]) -> Counter[str]:
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part)
        return total
