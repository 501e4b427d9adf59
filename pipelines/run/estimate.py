"""What a job would read, send and pay, and which of its rows would come through.

Apart from `vecferry.pipelines.run.dryrun` because nothing is shown, and no endpoint called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vecferry.distinct import DistinctKeys
from vecferry.money import NANO
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.dryrun import RUN
from vecferry.pipelines.run.logic import JobLogic
from vecferry.rows import DELETE, Change, Reject
from vecferry.steps import Estimator, Plan, Source, Split, Transformer

Operate = Callable[[Change], list[Change | Reject]]
"""What a step makes of a row."""

READING_PATIENCE = 60.0
"""Seconds that an estimate waits for a server which is away; it may have read for long already."""
MOST_SPLITS = 64
"""From how many splits a sample is taken at most, spread over the source."""
MOST_READ_ON = 20_000
"""Rows of a split that are read, and left out, to learn how many bytes a row has."""


@dataclass(frozen=True)
class Sample:
    """The rows that were read in place of all; `share` of the source, None if nobody knows it."""

    rows: int
    share: float | None


@dataclass(frozen=True)
class RejectedBy:
    """Rows that one step would reject for one reason."""

    step: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Estimate:
    """What a job would read and send: counted, not guessed, but for the tokens.

    `tokens` is what `vecferry.transforms.embed.long.estimate_tokens` makes of what is sent for the
    distinct texts, long ones cut, in pieces or alone as `overLimit` says. `cached_texts` are those
    that the vector cache holds: they are neither in `tokens` nor in `requests`.
    Images are told apart by what the rows say, for none is loaded, and have no tokens here.
    `added` are the chunks that rows are split into, but the first of each.
    `keys` are the distinct keys of the rows that come through, None if the job does not tell the
    key. `keys_exact` is False if there are too many to be counted. `cost` is in `currency`.

    If the share of a `sample` is known, the numbers are those of the whole source. What repeats is
    taken for as rare as in the sample. The keys are those of the sample.
    """

    rows: int = 0
    rejected: int = 0
    dropped: int = 0
    added: int = 0
    texts: int = 0
    distinct_texts: int = 0
    cached_texts: int = 0
    images: int = 0
    distinct_images: int = 0
    tokens: int = 0
    requests: int = 0
    keys: int | None = None
    keys_exact: bool | None = None
    cost: float | None = None
    currency: str | None = None
    rejected_by: list[RejectedBy] = field(default_factory=list)
    sample: Sample | None = None


class _Steps:
    """The steps of a job, one row at a time, without their services."""

    def __init__(self, resolved: ResolvedJob, logic: JobLogic) -> None:
        self._reader = resolved.reader.name
        self.estimators = [step.estimator() for step in resolved.transformers]
        self._operators = [
            (step.name, _all_of(logic.transformer(step)) if own is None else _one_of(own))
            for step, own in zip(resolved.transformers, self.estimators, strict=True)
        ]
        columns = resolved.writer.settings.key_columns()
        self._key_columns, self._keys = columns or [], DistinctKeys() if columns else None
        self.counts = Counter[str]()
        self.rejects = Counter[tuple[str, str]]()

    def take(self, item: Change | Reject) -> None:
        """Sends a record of the source through all steps, and counts what becomes of it."""
        self.counts["rows"] += 1
        flow = [(item, self._refuse(self._reader, item, refused=False))]
        for name, operate in self._operators:
            behind: list[tuple[Change | Reject, bool]] = []
            for given, refused in flow:
                change = given.instead if isinstance(given, Reject) else given
                made = [] if change is None else operate(change)
                if not made:
                    self.counts["rejected" if refused else "dropped"] += 1
                self.counts["added"] += max(0, len(made) - 1)
                behind += [(one, self._refuse(name, one, refused=refused)) for one in made]
            flow = behind
        for given, refused in flow:
            if refused:
                self.counts["rejected"] += 1
            elif isinstance(given, Change) and self._keys is not None and given.kind != DELETE:
                self._keys.add(["\0".join(str(given.get(name)) for name in self._key_columns)])

    def _refuse(self, step: str, item: Change | Reject, *, refused: bool) -> bool:
        """Whether a row is rejected by now; its first reject is counted."""
        if refused or not isinstance(item, Reject):
            return refused
        self.rejects[step, item.reason] += 1
        return True

    def found(self, currency: str | None) -> Estimate:
        """What was counted."""
        total: dict[str, Any] = dict(self.counts)
        for estimator in self.estimators:
            if estimator is not None:
                for name, n in estimator.estimate().items():
                    total[name] = total.get(name, 0) + n
        cost = total.pop("nano", 0) / NANO
        keys = None if self._keys is None else self._keys.count()
        return Estimate(
            **total,
            keys=None if keys is None else keys.distinct,
            keys_exact=None if keys is None else keys.exact,
            cost=None if currency is None else cost,
            currency=currency,
            rejected_by=[
                RejectedBy(step, reason, rows) for (step, reason), rows in self.rejects.items()
            ],
        )


def estimate(resolved: ResolvedJob, sample: int | None = None) -> Estimate:
    """Counts what embedding a source would take; calls no endpoint.

    Reads the whole source, or about `sample` rows of it, from splits all over it.
    """
    logic = JobLogic(resolved, RUN, retry_deadline=READING_PATIENCE)
    try:
        source = logic.source
        plan, steps = source.plan(), _Steps(resolved, logic)
        reading = _Reading(source, plan, sample)
        for item in reading.rows():
            steps.take(item)
        found = steps.found(resolved.currency)
    finally:
        logic.close()
    return found if reading.whole else _of_all(found, reading.share(found.rows))


class _Reading:
    """Reads the splits of a source, whole or some rows of some; `whole` once all was read."""

    def __init__(self, source: Source, plan: Plan, sample: int | None) -> None:
        self._source, self._plan, self._sample = source, plan, sample
        self._seen = self._seen_rows = 0
        self.whole = True

    def rows(self) -> Iterator[Change | Reject]:
        splits, left = self._plan.splits, self._sample
        if left is None:
            for split in splits:
                yield from self._source.read(split)
            return
        step = max(1, len(splits) // MOST_SPLITS)
        some = splits[::step]
        self.whole = step == 1
        for at, split in enumerate(some):
            most = -(-left // (len(some) - at))  # what is left, shared out over the rest
            for item in self._first(split, most):
                left -= 1
                yield item

    def _first(self, split: Split, most: int) -> Iterator[Change | Reject]:
        """The first rows of a split, and how many bytes its rows have.

        A source reads blocks, and counts the bytes of a block before it gives its rows. So rows are
        read on, and left out, until the next block begins.
        """
        before = known = self._bytes
        mark: tuple[int, int] | None = None
        rows = 0
        for item in self._source.read(split):
            if self._bytes != known:
                mark = (known - before, rows) if rows else None
                known = self._bytes
            if rows >= most:
                self.whole = False
                if mark or self._plan.size.rows or rows >= most + MOST_READ_ON:
                    break
            else:
                yield item
            rows += 1
        else:
            mark = (self._bytes - before, rows)
        seen, of_rows = mark or (known - before, rows)
        self._seen, self._seen_rows = self._seen + seen, self._seen_rows + of_rows

    @property
    def _bytes(self) -> int:
        return self._source.counts.values.get("bytes-read", 0)

    def share(self, rows: int) -> float | None:
        """Which share of the source `rows` are, as far as the source tells its size."""
        size = self._plan.size
        if size.rows:
            return min(1.0, rows / size.rows)
        if size.bytes and self._seen and self._seen_rows:
            return min(1.0, rows * self._seen / self._seen_rows / size.bytes)
        return None


def _of_all(found: Estimate, share: float | None) -> Estimate:
    """The estimate of a whole source, by a sample of it."""
    found = replace(found, sample=Sample(found.rows, share))
    if share is None:
        return found
    scaled: dict[str, Any] = {
        f.name: round(getattr(found, f.name) / share) for f in fields(found) if f.type == "int"
    }
    if found.cost is not None:
        scaled["cost"] = found.cost / share
    rejected = [replace(r, rows=round(r.rows / share)) for r in found.rejected_by]
    return replace(found, **scaled, rejected_by=rejected)


def _all_of(operator: Transformer) -> Operate:
    def operate(change: Change) -> list[Change | Reject]:
        return [item for item, _ in (*operator.process(change), *operator.finish())]

    return operate


def _one_of(estimator: Estimator) -> Operate:
    def operate(change: Change) -> list[Change | Reject]:
        made = estimator.process(change)
        return [] if made is None else [made]

    return operate
