"""Runs a job's steps in a loop, without Beam and without writing, for previews.

Stands apart from `vecferry.pipelines.cli.commands` because it runs without a command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vecferry.errors import redact
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.logic import JobLogic
from vecferry.rows import Change, Reject, Substitute
from vecferry.steps import Source, Transformer

RUN = "preview"
PATIENCE = 20.0
"""Seconds that a preview waits for a server which is away: somebody sits before it."""


@dataclass
class StepPreview:
    """What came out of one step: rows as dicts, and rejects; `whole` rows stand for no reject."""

    step: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    whole: int = 0


def all_rejected(stages: Sequence[StepPreview]) -> str | None:
    """What to say where every row of a preview was rejected, and none dropped; else None."""
    first, last = stages[0], stages[-1]
    rejects = [(stage.step, reject) for stage in stages for reject in stage.rejects]
    if last.whole or not rejects or len(rejects) < first.whole + len(first.rejects):
        return None
    step, reject = rejects[0]
    return (
        f"every row is rejected ({len(rejects)} rows), the first by {step!r} as {reject.reason}: "
        f"{redact(reject.message)}"
    )


def read_rows(source: Source) -> Iterator[Change | Reject]:
    """All rows of a source, read one after the other."""
    for split in source.plan().splits:
        yield from source.read(split)


def preview(resolved: ResolvedJob, rows: int, *, source_only: bool = False) -> list[StepPreview]:
    """The first `rows` records after each step, and what the writer would send.

    The embedding endpoint is called for them; nothing is written.
    """
    logic = JobLogic(resolved, RUN, row_limit=rows, retry_deadline=PATIENCE)
    first = StepPreview(resolved.reader.name)
    current: list[Change] = []
    source = read_rows(logic.source)
    for _ in range(rows):
        item = next(source, None)
        if item is None:
            break
        _put(item, first, current)
    shown = [first]
    if source_only:
        return shown
    for step in resolved.transformers:
        stage, after = StepPreview(step.name), list[Change]()
        for item in _through(logic.transformer(step), current):
            _put(item, stage, after)
        current = after
        shown.append(stage)
    last = StepPreview(resolved.writer.name)
    for change in current:
        record = logic.target.preview(change)
        if isinstance(record, Reject):
            last.rejects.append(record)
        else:
            last.rows.append(record)
            last.whole += type(change) is not Substitute
    return [*shown, last]


def _put(item: Change | Reject, stage: StepPreview, rows: list[Change]) -> None:
    if isinstance(item, Reject):
        if not item.quiet:
            stage.rejects.append(item)
        if item.instead is not None:
            stage.rows.append(dict(item.instead))
            rows.append(item.instead)
    else:
        stage.rows.append(dict(item))
        stage.whole += type(item) is not Substitute
        rows.append(item)


def _through(operator: Transformer, rows: Iterable[Change]) -> Iterator[Change | Reject]:
    try:
        for change in rows:
            for item, _ in operator.process(change):
                yield item
        for item, _ in operator.finish():
            yield item
    finally:
        operator.close()
