"""What a job expects of its run, and what became of it: judged before an alias moves.

Stands apart from `vecferry.pipelines.run.report` because a report only tells what was counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from vecferry.pipelines.job.model import Expect
from vecferry.pipelines.run.report import WARNING, Report


def unmet(report: Report, expect: Expect, *, partial: bool) -> str | None:
    """Why a run does not do what its job expects, or None.

    `partial` says that only some rows were to be read, as with ``--limit``. Then numbers of rows
    are not judged, and shares are.
    """
    broken = [*_shares(report, expect), *([] if partial else _numbers(report, expect))]
    return "; ".join(broken) or _all_rejected(report, expect)


def _numbers(report: Report, expect: Expect) -> Iterator[str]:
    read, written, where = report.rows_read, report.rows_written, "setting.expect"
    if expect.min_rows is not None and read < expect.min_rows:
        yield f"{where}: {read:,} rows read, fewer than minRows {expect.min_rows:,}"
    if expect.max_rows is not None and read > expect.max_rows:
        yield f"{where}: {read:,} rows read, more than maxRows {expect.max_rows:,}"
    if expect.min_written is not None and written < expect.min_written:
        yield f"{where}: {written:,} rows written, fewer than minWritten {expect.min_written:,}"


def _shares(report: Report, expect: Expect) -> Iterator[str]:
    rejected, read = report.rows_rejected, report.taken
    share = expect.max_reject_share
    if share is not None and rejected > share * read:
        yield (
            f"setting.expect: {rejected:,} of {read:,} rows rejected, more than maxRejectShare "
            f"{share:g}"
        )
    most, keys = expect.max_replaced, report.keys
    if most is None or keys is None:
        return
    if keys.replaced > most:
        yield (
            f"setting.expect: {keys.shown_replaced} rows replaced others of the run, more than "
            f"maxReplaced {most:,}: their keys are equal"
        )


def _all_rejected(report: Report, expect: Expect) -> str | None:
    """Why a run fails all of whose rows were rejected, though nobody expects so; else None.

    Rows that went on in place of rejected ones count as rejected.
    """
    taken = report.rows_written + report.rows_deleted + report.rows_dropped + report.rows_stale
    if expect.min_written == 0 or not report.rejected_by or taken > report.rows_replaced:
        return None
    worst = max(report.rejected_by, key=lambda r: r.rows)
    return (
        f"every row was rejected ({report.rows_rejected:,} rows), most often by {worst.step!r} as "
        f"{worst.reason} ({worst.rows:,} rows). Look at the rejects, mend the cause, and run the "
        "job again; if this may be so, set setting.expect.minWritten to 0"
    )


def replaced(report: Report) -> str | None:
    """A warning where rows replaced others of the same run, as their keys are equal; else None."""
    keys = report.keys
    if keys is None or not keys.replaced:
        return None
    doubt = (
        ""
        if report.counts == "committed"
        else " (a runner that repeats work counts its rows again)"
    )
    return (
        f"{WARNING}{keys.shown_replaced} of the {keys.rows:,} rows that were written replaced "
        f"others, as there are {keys.shown} keys{doubt}. The target has the last row of each key. "
        "If each row should be kept, look at the columns that make the key"
    )
