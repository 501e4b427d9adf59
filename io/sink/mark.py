"""The mark in a target that says what made its vectors, and how a job compares with it.

A store keeps the mark beside the rows; where, is its own business. Here is what stands in it, what
is refused because of it, and when it is written. The mark of a sync also holds the epoch of its
changes. Without the epoch, a sync that lost its position would write stale changes only. What the
target goes without while it is loaded also stands there, for the run that makes up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from vecferry.settings import Maker
from vecferry.steps import StepContext

NAME = "vecferry"
"""The key in a store's metadata under which the mark stands."""


@dataclass(frozen=True)
class Mark:
    """What a target says of itself.

    Attributes:
      makers: by vector field, what made the vectors in it.
      epoch: the greatest epoch of a sync's changes; None if no sync has written there.
      deferred: what the target goes without until a load has ended, such as an index, in the
        store's own words; None if it has all.
    """

    makers: Mapping[str, Maker] = field(default_factory=dict)
    epoch: int | None = None
    deferred: Mapping[str, Any] | None = None


def to_json(mark: Mark) -> dict[str, Any]:
    """A mark as a store keeps it; the mark of a job that is not a sync has no epoch."""
    out: dict[str, Any] = {"vectors": {name: asdict(maker) for name, maker in mark.makers.items()}}
    if mark.epoch is not None:
        out["epoch"] = mark.epoch
    if mark.deferred is not None:
        out["deferred"] = dict(mark.deferred)
    return out


def to_text(mark: Mark) -> str:
    """A mark as one line of JSON, in ASCII but for what names have beyond it."""
    return orjson.dumps(to_json(mark)).decode()


def from_json(value: object) -> Mark | None:
    """The mark in what a store gave, an object or its text; None where there is none.

    What is unknown in it, as a later version may write, is passed over.
    """
    if isinstance(value, str | bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    if not isinstance(value, dict):
        return None
    vectors, epoch, deferred = (value.get(k) for k in ("vectors", "epoch", "deferred"))
    if not isinstance(vectors, dict):
        return None
    return Mark(
        {name: maker for name, told in vectors.items() if (maker := _maker(told)) is not None},
        epoch if type(epoch) is int and epoch >= 0 else None,
        deferred if isinstance(deferred, dict) else None,
    )


def _maker(told: Any) -> Maker | None:
    try:
        provider, model, dimension = (told[k] for k in ("provider", "model", "dimension"))
        return Maker(provider=str(provider), model=str(model), dimension=int(dimension))
    except (TypeError, KeyError, ValueError):
        return None


def mark_of(context: StepContext, filled: Mapping[str, str]) -> Mark:
    """The mark of what a job writes; `filled` is field -> column of the row."""
    makers = context.write.makers
    return Mark({name: makers[column] for name, column in filled.items() if column in makers})


@dataclass(frozen=True)
class Marking:
    """A job beside the target that is there.

    `what` names the target in messages, `found` is its mark, `job` that of what the job writes;
    `filled` is field -> column. `is_empty` asks the store whether the target holds no row;
    `aliases` says whether the store has such.
    """

    context: StepContext
    what: str
    found: Mark | None
    filled: Mapping[str, str]
    is_empty: Callable[[], bool]
    aliases: bool = True

    @property
    def job(self) -> Mark:
        """The mark of what the job writes."""
        return mark_of(self.context, self.filled)

    def refusals(self) -> list[str]:
        """Why the job must not write there: another model made what is there."""
        if self.context.write.force:
            return []
        out = [
            f"{self.what}: the vectors of {name!r} were made by {there}, and this job's are made "
            f"by {here}, which can't be compared with them: {self._way_out(there, here)}"
            for name, there, here in self._different()
        ]
        if self.context.write.instead_of and self.found is None and not self.is_empty():
            out.append(
                f"{self.what} holds rows already, and no mark says that vecferry made it: name a "
                "target that is new as --into, or add --force"
            )
        return out

    def remarks(self) -> list[str]:
        """What a person should know of the vectors that are there."""
        out = [
            f"--force: {self.what} holds vectors of {there} in {name!r}, and those of {here} come "
            "among them"
            for name, there, here in self._different()
            if self.context.write.force
        ]
        unmarked = self._unmarked
        if unmarked and not self.context.write.force and not self.is_empty():
            made = "; ".join(sorted({str(maker) for maker in unmarked.values()}))
            out.append(
                f"{self.what} has no mark that says what made the vectors in "
                f"{', '.join(map(repr, unmarked))}, and rows may be there: this job's are made by "
                f"{made}. If the same model made theirs, run once with --force, which marks it"
            )
        for name, there in self._there.items():
            if name in self.filled and name not in self.job.makers:
                out.append(
                    f"{self.what}: the vectors of {name!r} were made by {there}; what made those "
                    f"in column {self.filled[name]!r} this job does not say"
                )
        return out

    def strangers(self) -> list[str]:
        """Why a search with this job's vectors finds nothing of worth."""
        return [
            f"{self.what}: the vectors of {name!r} were made by {there}, and what is searched for "
            f"is embedded by {here}: the hits mean nothing"
            for name, there, here in self._different()
        ]

    def to_write(self) -> Mark | None:
        """The mark that the target is to have from now on; None where it stays as it is.

        A target is marked before its first row, or by --force. If rows are there already, only
        the user knows what made their vectors.
        """
        different = bool(self._different())
        if self.context.write.force and (different or self._unmarked):
            return self._with_ours
        if self._unmarked and not different and self.is_empty():
            return self._with_ours
        return None

    @property
    def _with_ours(self) -> Mark:
        return replace(self.found or Mark(), makers={**self._there, **self.job.makers})

    @property
    def _there(self) -> Mapping[str, Maker]:
        return self.found.makers if self.found is not None else {}

    def _way_out(self, there: Maker, here: Maker) -> str:
        """What to do; a field takes vectors of one dimension only, so that force is of no use."""
        switch = " (and --switch-alias to move the alias to it)" if self.aliases else ""
        new = f"run with --into NEW to fill a new target{switch}"
        if there.dimension != here.dimension:
            return new
        return f"{new}, or with --force to write there all the same, and to mark it anew"

    @property
    def _unmarked(self) -> Mapping[str, Maker]:
        return {name: m for name, m in self.job.makers.items() if name not in self._there}

    def _different(self) -> list[tuple[str, Maker, Maker]]:
        found, job = self._there, self.job.makers
        return [(n, found[n], job[n]) for n in job if n in found and found[n] != job[n]]
