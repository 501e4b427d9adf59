"""What a run says of itself when it is over: one JSON object, the same for every runner."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel

from vecferry.process import RunStatus
from vecferry.steps import Budget

State = Literal["DONE", "FAILED", "CANCELLED", "RUNNING"]

STATUS: dict[State, int] = {"DONE": 0, "RUNNING": 0, "FAILED": 1, "CANCELLED": 130}
"""The exit status of a run, by the state that its report tells."""


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


class EmbedCounts(BaseModel):
    """What the embedding cost; `tokens` as the endpoint counts them.

    `most_in_flight` is the most requests under way at once, `latency_ms` None without any answer.
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


class Report(BaseModel):
    """The outcome of a run.

    rows_read + rows_added = rows_written + rows_deleted + rows_rejected + rows_unkept +
    rows_dropped + rows_stale in a run that is DONE, or that was CANCELLED by one signal; `lost`
    is the difference. Rows are unkept that a step refused and whose rejects could not be
    written. Of the rows added, rows_replaced went on in place of rejected or dropped changes
    (`setting.onReject`). Where `counts` are attempted, a runner may have repeated some of the
    work, and counted it again. A run is RUNNING where its launcher left it, and `follow` says
    how to go on. The counts of a sync are those of its `rounds` that were DONE. `span` is what
    the last round read, `position` how far the source is read. All three are None of a run that
    is not a sync.
    """

    job: str
    run: str
    state: State
    rows_read: int
    rows_written: int
    rows_deleted: int
    rows_rejected: int
    rows_unkept: int = 0
    rows_dropped: int
    rows_stale: int
    rows_added: int
    rows_replaced: int = 0
    counts: Literal["committed", "attempted"]
    rejects: str | None
    rejected_by: list[RejectedBy]
    embed: EmbedCounts
    seconds: float
    error: str | None
    notes: list[str] = []
    follow: list[str] = []
    rounds: int | None = None
    span: dict[str, Any] | None = None
    position: dict[str, Any] | None = None

    @property
    def lost(self) -> int:
        """Rows that were read and are in none of the other counts."""
        out = self.rows_written + self.rows_deleted + self.rows_rejected + self.rows_unkept
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
) -> Report:
    """A report from what was counted; `committed` False where a runner may have counted twice.

    `requests` is how many this process sent, those of bundles that failed, and count nothing,
    included.
    """
    counts: dict[str, int] = run_state.counts()
    rejected = run_state.rejects()
    embed: dict[str, Any] = {
        name: counts.get(counter, 0) for name, counter in _EMBED_COUNTERS.items()
    }
    embed["requests"] = max(embed["requests"], requests)
    embed["most_in_flight"] = run_state.most("embed-in-flight")
    embed["latency_ms"] = latency_of(run_state.samples("embed-msec"))
    return Report(
        job=job,
        run=run,
        state=state,
        **_row_counts(counts),
        rows_rejected=sum(rejected.values()),
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


_ROW_COUNTERS = ("read", "written", "deleted", "unkept", "dropped", "stale", "added", "replaced")
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

    `record` alone counts where it is given; `percentage` is a share of the rows read.
    """
    rejected = report.rows_rejected
    if record is not None:
        if rejected > record:
            return f"errorLimit: {rejected} rows rejected, more than record {record} allows"
    elif percentage is not None and rejected > percentage * report.rows_read:
        return (
            f"errorLimit: {rejected} of {report.rows_read} rows rejected, more than "
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
        f"WARNING: no row was written{' whole' if replaced else ''}: {report.rows_rejected:,} of "
        f"the {report.rows_read:,} that were read were rejected, most often by {worst.step!r} as "
        f"{worst.reason} "
        f"({worst.rows:,} rows); errorLimit allows it. Look at the rejects, mend the cause, and "
        "run the job again"
    )


def over_budget(budget: Budget, requests: int, tokens: int) -> str:
    """Why a run on a cluster ended early: its workers would have spent more than they may."""
    bounds = {"requests": budget.requests, "tokens": budget.tokens}
    named = " and ".join(f"{n:,} {name}" for name, n in bounds.items() if n is not None)
    return (
        f"setting.budget allows {named}, shared out over the workers, and one would exceed its "
        f"share: {requests:,} requests and {tokens:,} tokens are spent. Rows that were read and "
        "not embedded are rejected (over-budget). Run the job again with budget left: with "
        "setting.vectorCache it asks only for what is missing"
    )
