"""What a run says of itself when it is over: one JSON object, the same for every runner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from vecferry.money import NANO
from vecferry.process import RunStatus
from vecferry.steps import Budget

State = Literal["DONE", "FAILED", "CANCELLED", "RUNNING"]

STATUS: dict[State, int] = {"DONE": 0, "RUNNING": 0, "FAILED": 1, "CANCELLED": 130}
"""The exit status of a run, by the state that its report tells."""


WARNING = "WARNING: "
"""What a note of a report begins with that warns."""


class RejectedBy(BaseModel):
    """Rows that one step rejected for one reason."""

    step: str
    reason: str
    rows: int


class Latency(BaseModel):
    """How long the answered requests took, in milliseconds, to three digits."""

    min: float
    mean: float
    p50: float
    p95: float
    max: float


class Keys(BaseModel):
    """The distinct keys of the `rows` that were written; an estimate unless `exact`.

    `least` and `most` bound the number of keys with 99.7 %. `replaced` is how many rows surely
    replaced others of the run.
    """

    rows: int
    distinct: int
    exact: bool
    least: int
    most: int
    replaced: int

    @property
    def shown(self) -> str:
        """The number of keys in words."""
        return f"{'' if self.exact else 'about '}{self.distinct:,}"

    @property
    def shown_replaced(self) -> str:
        """The number of rows that replaced others in words."""
        if self.exact:
            return f"{self.replaced:,}"
        return f"about {self.rows - self.distinct:,}"


class EmbedCounts(BaseModel):
    """What the embedding cost; `tokens` as the endpoint counts them.

    `most_in_flight` is the most requests under way at once, `latency_ms` None without any answer.
    `cost` is in `currency`, by the prices that the job names; None if it names none.
    """

    requests: int = 0
    inputs: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0
    tokens: int = 0
    retries: int = 0
    throttled: int = 0
    bisections: int = 0
    texts_truncated: int = 0
    texts_split: int = 0
    images_scaled: int = 0
    most_in_flight: int = 0
    latency_ms: Latency | None = None
    cost: float | None = None
    currency: str | None = None


class Report(BaseModel):
    """The outcome of a run.

    rows_read + rows_added = rows_written + rows_deleted + rows_rejected + rows_unkept +
    rows_dropped + rows_stale + rows_unfinished in a run that is DONE, or that one signal CANCELLED.
    `lost` is the difference. Rows are unkept that a step refused and whose rejects could not be
    written. Rows are unfinished that waited for a server when their run was interrupted; a run of
    the same job writes them. Of the rows added, rows_replaced went on in place of rejected or
    dropped changes (`setting.onReject`). Of a row that was split into n rows, n - 1 were added;
    rows_split such rows were. Where `counts` are attempted, a runner may have repeated
    some of the work, and counted it again. A run is RUNNING where its launcher left it, and
    `follow` says how to go on. `phases` has the seconds of each phase. The counts of a sync are
    those of its `rounds` that were DONE. `span` is what the last round read, `position` how far the
    source is read. All three are None of a run that is not a sync. `keys` is None of a
    sync, whose rows are to replace one another. It is also None if rows have no keys, if they have
    versions, and if a worker has not told its keys.
    """

    job: str
    run: str
    state: State
    rows_read: int
    rows_written: int
    rows_deleted: int
    rows_rejected: int
    rows_unkept: int = 0
    rows_unfinished: int = 0
    rows_dropped: int
    rows_stale: int
    rows_added: int
    rows_replaced: int = 0
    rows_split: int = 0
    keys: Keys | None = None
    counts: Literal["committed", "attempted"]
    rejects: str | None
    rejected_by: list[RejectedBy]
    embed: EmbedCounts
    seconds: float
    phases: dict[str, float] = {}
    error: str | None
    notes: list[str] = []
    follow: list[str] = []
    rounds: int | None = None
    span: dict[str, Any] | None = None
    position: dict[str, Any] | None = None

    @property
    def taken(self) -> int:
        """The rows that could be rejected: those that were read, each split row as its parts."""
        return self.rows_read + (self.rows_added - self.rows_replaced if self.rows_split else 0)

    @property
    def lost(self) -> int:
        """Rows that were read and are in none of the other counts."""
        out = self.rows_written + self.rows_deleted + self.rows_rejected + self.rows_unkept
        out += self.rows_unfinished
        return self.rows_read + self.rows_added - out - self.rows_dropped - self.rows_stale


def make_report(
    *,
    job: str,
    run: str,
    state: State,
    run_state: RunStatus,
    rejects: str,
    seconds: float,
    error: str | None,
    committed: bool = True,
    requests: int = 0,
    nano: int = 0,
    currency: str | None = None,
) -> Report:
    """A report from what was counted; `committed` False where a runner may have counted twice.

    `requests` and `nano` are how many this process sent, and what they cost, those of bundles that
    failed, and count nothing, included. `currency` is None of a job without prices.
    """
    counts: dict[str, int] = run_state.counts()
    rejected = run_state.rejects()
    embed: dict[str, Any] = {
        name: counts.get(counter, 0) for name, counter in _EMBED_COUNTERS.items()
    }
    embed["requests"] = max(embed["requests"], requests)
    if currency is not None:
        embed["cost"] = max(counts.get("embed-nano", 0), nano) / NANO
        embed["currency"] = currency
    embed["most_in_flight"] = run_state.most("embed-in-flight")
    embed["latency_ms"] = latency_of(run_state.samples("embed-msec"))
    return Report(
        job=job,
        run=run,
        state=state,
        **_row_counts(counts),
        rows_rejected=sum(rejected.values()),
        keys=_keys(run_state, counts),
        counts="committed" if state == "DONE" and committed else "attempted",
        rejects=rejects if rejected else None,
        rejected_by=[
            RejectedBy(step=step, reason=reason, rows=rows)
            for (step, reason), rows in sorted(rejected.items())
        ],
        embed=EmbedCounts(**embed),
        seconds=round(seconds, 3),
        error=error,
    )


def _row_counts(counts: dict[str, int]) -> dict[str, Any]:
    return {f"rows_{n}": counts.get(f"rows-{n}", 0) for n in _ROW_COUNTERS}


def _keys(run_state: RunStatus, counts: dict[str, int]) -> Keys | None:
    """The keys of the rows that were written, if all of these rows have one."""
    found, rows = run_state.keys(), counts.get("rows-keyed", 0)
    if found is None or not rows or rows != counts.get("rows-written", 0):
        return None
    replaced = max(0, rows - found.most)
    return Keys(rows=rows, replaced=replaced, **asdict(found))


def latency_of(samples: Counter[int]) -> Latency | None:
    """The distribution of `samples`, how often each number of milliseconds was seen."""
    total = samples.total()
    if not total:
        return None
    values = sorted(samples)

    def percentile(share: float) -> float:
        left = share * total
        for value in values:
            left -= samples[value]
            if left <= 0:
                return value
        return values[-1]

    return Latency(
        min=values[0],
        mean=round(sum(value * n for value, n in samples.items()) / total, 1),
        p50=percentile(0.5),
        p95=percentile(0.95),
        max=values[-1],
    )


_ROW_COUNTERS = (
    "read",
    "written",
    "deleted",
    "unkept",
    "dropped",
    "stale",
    "added",
    "replaced",
    "split",
    "unfinished",
)
_EMBED_COUNTERS = {
    "requests": "embed-requests",
    "inputs": "embed-inputs",
    "cache_hits": "cache-hits",
    "cache_misses": "cache-misses",
    "cache_evictions": "cache-evictions",
    "tokens": "embed-tokens",
    "retries": "embed-retries",
    "throttled": "embed-throttled",
    "bisections": "embed-bisections",
    "texts_truncated": "texts-truncated",
    "texts_split": "texts-split",
    "images_scaled": "images-scaled",
}


def over_limit(report: Report, record: int | None, percentage: float | None) -> str | None:
    """Why the job fails under its errorLimit, or None.

    `record` alone counts where it is given; `percentage` is a share of the rows read, or of the
    parts that they were split into.
    """
    rejected = report.rows_rejected
    if record is not None:
        if rejected > record:
            return f"errorLimit: {rejected} rows rejected, more than record {record} allows"
    elif percentage is not None and rejected > percentage * report.taken:
        return (
            f"errorLimit: {rejected} of {report.taken} rows rejected, more than "
            f"percentage {percentage:g} allows"
        )
    return None


def nothing_written(report: Report) -> str | None:
    """A warning where rows were read and none is in the target, since they were rejected.

    What went on in place of rejected rows does not count.
    """
    replaced = report.rows_replaced
    whole = report.rows_written + report.rows_deleted + (report.rows_stale if replaced else 0)
    if whole > replaced or not report.rejected_by:
        return None
    worst = max(report.rejected_by, key=lambda r: r.rows)
    return (
        f"{WARNING}no row was written{' whole' if replaced else ''}: {report.rows_rejected:,} of "
        f"the {report.taken:,} that were {'made' if report.rows_split else 'read'} were "
        f"rejected, most often by {worst.step!r} as "
        f"{worst.reason} "
        f"({worst.rows:,} rows); errorLimit allows it. Look at the rejects, mend the cause, and "
        "run the job again"
    )


def over_budget(budget: Budget, counts: Mapping[str, int]) -> str:
    """Why a run on a cluster ended early: its workers would have spent more than they may."""
    named = budget.named(budget.requests, budget.tokens, budget.nano)
    spent = (counts.get(f"embed-{name}", 0) for name in ("requests", "tokens", "nano"))
    return (
        f"setting.budget allows {named}, shared out over the workers, and one would exceed its "
        f"share: {budget.spent(*spent)}. Rows that were read and "
        "not embedded are rejected (over-budget). Run the job again with budget left: with "
        "setting.vectorCache it asks only for what is missing"
    )
