"""Runs a job's steps in a loop, without Beam and without writing: previews and estimates.

Stands apart from `vecferry.pipelines.cli.commands` because it runs without a command line.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.logic import JobLogic
from vecferry.rows import Change, Reject
from vecferry.steps import Source, Transformer

RUN = "preview"
PATIENCE = 20.0
"""Seconds that a preview waits for a server which is away: somebody sits before it."""
READING_PATIENCE = 60.0
"""The same for an estimate, which may have read for long already."""


@dataclass
class StepPreview:
    """What came out of one step: rows as dicts, and rejects."""

    step: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


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


@dataclass
class Estimate:
    """What a job would read and send: counted, not guessed, but for the tokens.

    `tokens` is what `vecferry.transforms.embed.long.estimate_tokens` makes of what is sent for the
    distinct texts, long ones cut, in pieces or alone as `overLimit` says.
    Images are told apart by what the rows say, for none is loaded, and have no tokens here.
    """

    rows: int = 0
    rejected: int = 0
    dropped: int = 0
    texts: int = 0
    distinct_texts: int = 0
    images: int = 0
    distinct_images: int = 0
    tokens: int = 0
    requests: int = 0


def estimate(resolved: ResolvedJob) -> Estimate:
    """Reads the whole source and counts what embedding it would take; calls no endpoint."""
    result = Estimate()
    logic = JobLogic(resolved, RUN, retry_deadline=READING_PATIENCE)
    estimators = [step.estimator() for step in resolved.transformers]
    operators = [
        _one_by_one(logic.transformer(step)) if estimator is None else estimator.process
        for step, estimator in zip(resolved.transformers, estimators, strict=True)
    ]
    for item in read_rows(logic.source):
        result.rows += 1
        given: Change | Reject | None = item
        refused = False
        for operate in operators:
            refused = refused or isinstance(given, Reject)
            change = given.instead if isinstance(given, Reject) else given
            if change is None:
                break
            given = operate(change)
        if refused or isinstance(given, Reject):
            result.rejected += 1
        elif given is None:
            result.dropped += 1
    logic.close()
    total: Counter[str] = Counter()
    for estimator in estimators:
        if estimator is not None:
            total.update(estimator.estimate())
    return dataclasses.replace(result, **total)


def _one_by_one(operator: Transformer) -> Callable[[Change], Change | Reject | None]:
    def operate(change: Change) -> Change | Reject | None:
        emitted = operator.process(change)
        return emitted[0][0] if emitted else None

    return operate
