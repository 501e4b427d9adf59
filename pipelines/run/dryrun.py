"""Runs a job's steps in a loop, without Beam and without writing: previews and estimates."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vecferry.errors import TerminalError
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep, context_of
from vecferry.rows import Change, Reject

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


def read_rows(resolved: ResolvedJob, most: int | None = None) -> Iterator[Change | Reject]:
    """All rows of the job's source, read one after the other; `most` is how many are wanted."""
    context = context_of(resolved, resolved.reader, RUN)
    patience = PATIENCE if most is not None else READING_PATIENCE
    context = dataclasses.replace(context, row_limit=most, retry_deadline=patience)
    reader = resolved.reader.logic(context)
    for split in reader.splits():
        yield from reader.read(split)


def preview(resolved: ResolvedJob, rows: int, *, source_only: bool = False) -> list[StepPreview]:
    """The first `rows` records after each step, and what the writer would send.

    The embedding endpoint is called for them; nothing is written.
    """
    first = StepPreview(resolved.reader.name)
    current: list[Change] = []
    source = read_rows(resolved, rows)
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
        for item in _through(resolved, step, current):
            _put(item, stage, after)
        current = after
        shown.append(stage)
    target = resolved.writer.logic(context_of(resolved, resolved.writer, RUN))
    last = StepPreview(resolved.writer.name)
    for change in current:
        record = target.preview(change)
        if isinstance(record, Reject):
            last.rejects.append(record)
        else:
            last.rows.append(record)
    return [*shown, last]


def _put(item: Change | Reject, stage: StepPreview, rows: list[Change]) -> None:
    if isinstance(item, Reject):
        stage.rejects.append(item)
    else:
        stage.rows.append(dict(item))
        rows.append(item)


def _through(
    resolved: ResolvedJob, step: ResolvedStep, rows: Iterable[Change]
) -> Iterator[Change | Reject]:
    context = dataclasses.replace(context_of(resolved, step, RUN), retry_deadline=PATIENCE)
    if getattr(step.settings, "retry_deadline_seconds", None):
        own = min(step.settings.retry_deadline_seconds, PATIENCE)
        settings = step.settings.model_copy(update={"retry_deadline_seconds": own})
        step = dataclasses.replace(step, settings=settings)
    operator = step.logic(context)
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
    operators: list[Callable[[Change], Change | Reject | None]] = []
    for step in resolved.transformers:
        if step.kind.step_type == "embedding-transformer":
            operators.append(_InputCounter(step, result))
        else:
            operators.append(_one_by_one(resolved, step))
    for item in read_rows(resolved):
        result.rows += 1
        current: Change | Reject | None = item
        for operate in operators:
            if not isinstance(current, Change):
                break
            current = operate(current)
        if current is None:
            result.dropped += 1
        elif isinstance(current, Reject):
            result.rejected += 1
    for operate in operators:
        finish = getattr(operate, "finish", None)
        if finish is not None:
            finish()
    return result


def _one_by_one(
    resolved: ResolvedJob, step: ResolvedStep
) -> Callable[[Change], Change | Reject | None]:
    operator = step.logic(context_of(resolved, step, RUN))

    def operate(change: Change) -> Change | Reject | None:
        emitted = operator.process(change)
        return emitted[0][0] if emitted else None

    return operate


class _InputCounter:
    """Counts the texts and images that an embedding step would send."""

    def __init__(self, step: ResolvedStep, result: Estimate) -> None:
        from vecferry.transforms.embed.long import estimate_tokens, inputs_of
        from vecferry.transforms.embed.text import input_maker

        settings = step.settings
        self._makers = [input_maker(c, settings) for c in settings.embedding_columns]
        self._batch_size, self._images_at_once = settings.batch_size, settings.images_at_once
        self._tokens_of, self._may_be_empty = estimate_tokens, settings.skip_empty_value
        limit = settings.model.tokens if settings.model else None
        self._inputs_of = functools.partial(inputs_of, limit=limit, over=settings.over_limit)
        self._alone = 0
        self._result, self._seen, self._images = result, set[bytes](), set[bytes]()
        self._sent = set[bytes]()
        self._vectors = dict.fromkeys(c.embedding_column_name for c in settings.embedding_columns)

    def __call__(self, change: Change) -> Change | Reject | None:
        try:
            inputs = [make(change) for make in self._makers]
        except TerminalError as e:
            return Reject("", "", e.reason, str(e), row=change)
        if not (all(inputs) or self._may_be_empty):
            return Reject("", "", "empty-text", "there is no text", row=change)
        for one in filter(None, inputs):
            if isinstance(one, str):
                self._count(one)
            else:
                self._result.images += 1
                self._images.add(_digest(one.value))
        return change.with_columns(self._vectors)

    def _count(self, text: str) -> None:
        self._result.texts += 1
        digest = _digest(text)
        if digest in self._seen:
            return
        self._seen.add(digest)
        inputs, alone = self._inputs_of(text)
        self._alone += alone
        for one in inputs:
            digest = _digest(one)
            if digest not in self._sent:
                self._sent.add(digest)
                self._result.tokens += self._tokens_of(one)

    def finish(self) -> None:
        self._result.distinct_texts += len(self._seen)
        packed = len(self._sent) - self._alone
        self._result.requests += self._alone + math.ceil(packed / self._batch_size)
        self._result.distinct_images += len(self._images)
        self._result.requests += math.ceil(len(self._images) / self._images_at_once)


def _digest(value: str | bytes) -> bytes:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return hashlib.blake2b(data, digest_size=16).digest()
