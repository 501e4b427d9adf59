"""Makes a Beam graph of a job: a reader, transformers and a writer in one line, rejects aside.

Apart from `vecferry.pipelines.run.launch` because a graph is all that is submitted.

From the splits to the sink, the graph has neither shuffle, Flatten, side input nor state. So one
graph runs on every runner, and everything after the splits is one fused stage. A round of a sync in
this process has one stream, and not even the shuffle after the splits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.pipeline import PipelineVisitor

from vecferry.beam import REJECTED, ListSplits, ReaderTransform, Reporter
from vecferry.errors import LEAST_IN_ROWS, JobError
from vecferry.pipelines.job.model import as_file_name
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep, context_of
from vecferry.pipelines.registry import load
from vecferry.pipelines.run.anew import Anew, Followed, ReadAnew
from vecferry.pipelines.run.parts import WHOLE, HandRows, Part, TakeRows
from vecferry.pipelines.run.rejects import Replayed, WriteRejects, read_rejects
from vecferry.rows import Reject
from vecferry.secrets import secrets_in
from vecferry.steps import RETRY_SECONDS, Counts, RereadsMany, StepContext, goes_on

_VERBS = {"reader": "Read", "transformer": "Transform", "writer": "Write"}


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run adds to a job: its id, where rejects go, how many rows at most, what to replay.

    If processes of one machine share the steps, `part` says which of them this graph has.

    On a cluster `parallelism` is the number of streams, and `reports` the folder through which
    workers and launcher speak. `splits` gives what the launcher has listed; where it is None, the
    source is listed by a worker. Without `spread` one stream reads them all, and the graph has no
    shuffle. `retry_deadline` is how many seconds a step waits for a server. With `count_keys`,
    the keys of the rows that are written are counted.
    """

    run: str
    rejects: str
    row_limit: int | None = None
    replay: str | None = None
    parallelism: int = 1
    reports: str | None = None
    streams: int | None = None
    splits: ListSplits | None = None
    spread: bool = True
    retry_deadline: float | None = RETRY_SECONDS
    count_keys: bool = False
    part: Part = WHOLE


def build(pipeline: beam.Pipeline, resolved: ResolvedJob, plan: RunPlan) -> None:
    """Adds the graph of a job, or of the replay of its rejects, to `pipeline`."""
    if plan.replay is None:
        part = plan.part
        if part.first:
            rows = pipeline | "Take rows" >> TakeRows(run=plan.run)
        else:
            step = resolved.reader
            outputs = pipeline | _label(step) >> _transform(resolved, step, plan)
            _write_rejects(outputs, _label(step), plan)
            rows = outputs.rows
        steps = resolved.steps[max(1, part.first) : part.end]
        rows = _flow(rows, resolved, steps, plan, "")
        if rows is not None:
            rows | "Hand rows over" >> HandRows(run=plan.run)
        return
    followed = _followed(resolved, plan)
    for step in _refusing_steps(resolved, plan.replay):
        rest = resolved.steps[max(1, step.index) :]
        mark = f" refused by {step.name}"
        outputs = pipeline | f"Replay{mark}" >> _ReplayRejects(
            folder=plan.replay,
            step=step,
            context=_context(resolved, step, plan),
            followed=followed,
        )
        _write_rejects(outputs, f"Replay{mark}", plan)
        _flow(outputs.rows, resolved, rest, plan, mark)
    if followed is not None:
        again = ReadAnew(folder=plan.replay, followed=followed)
        mark = " read anew"
        _flow(pipeline | f"Replay{mark}" >> again, resolved, resolved.steps[1:], plan, mark)


def _followed(resolved: ResolvedJob, plan: RunPlan) -> Followed | None:
    reader = resolved.reader
    if not reader.settings.follows:
        return None
    made = {name for step in resolved.transformers for name in step.settings.outputs() or {}}
    return Followed(reader, _context(resolved, reader, plan), frozenset(made))


def require_no_secret(pipeline: beam.Pipeline, resolved: ResolvedJob) -> None:
    """Raises JobError if a secret of the job is part of what a runner would be given.

    A secret that is too short to be there by chance alone is not looked for.
    """
    models = [model for step in resolved.steps for model in (step.settings, step.connection)]
    secrets = [s.encode() for s in secrets_in(models) if len(s) >= LEAST_IN_ROWS]

    class Looks(PipelineVisitor):
        def visit_transform(self, node: Any) -> None:
            fn = node.transform.fn if isinstance(node.transform, beam.ParDo) else None
            pickled = cloudpickle.dumps(fn)
            if any(secret in pickled for secret in secrets):
                raise JobError(
                    f"--secrets worker: {node.full_label} holds a secret: this is a fault of the "
                    "step's own code, which must leave secrets in its settings"
                )

    pipeline.visit(Looks())


def _flow(
    rows: Any, resolved: ResolvedJob, steps: Iterable[ResolvedStep], plan: RunPlan, mark: str
) -> Any:
    """The rows behind the steps; None behind a writer."""
    for step in steps:
        label = _label(step) + mark
        outputs = rows | label >> _transform(resolved, step, plan)
        _write_rejects(outputs, label, plan)
        rows = None if step.kind.role == "writer" else outputs.rows
    return rows


def _label(step: ResolvedStep) -> str:
    return f"{_VERBS[step.kind.role]} {step.name}"


def _context(resolved: ResolvedJob, step: ResolvedStep, plan: RunPlan) -> StepContext:
    context = context_of(resolved, step, plan.run)
    reads = step.kind.role == "reader" or plan.replay is not None
    parallelism, streams = (1, None) if plan.part.here else (plan.parallelism, plan.streams)
    shared = dataclasses.replace(
        context.shared, parallelism=parallelism, reports=plan.reports, streams=streams
    )
    limit = plan.row_limit if reads else None
    read = dataclasses.replace(context.read, row_limit=limit)
    write = dataclasses.replace(context.write, count_keys=plan.count_keys)
    return dataclasses.replace(
        context, shared=shared, read=read, write=write, retry_deadline=plan.retry_deadline
    )


def _transform(resolved: ResolvedJob, step: ResolvedStep, plan: RunPlan) -> beam.PTransform:
    if step.kind.transform is None:
        raise JobError(resolved.unable())
    fields: dict[str, Any] = {"settings": step.settings, "context": _context(resolved, step, plan)}
    if step.connection is not None:
        fields["connection"] = step.connection
    if step.kind.role == "writer":
        fields["prepared"] = True
    transform: beam.PTransform = load(step.kind.transform)(**fields)
    if isinstance(transform, ReaderTransform):
        transform.splits, transform.spread = plan.splits, plan.spread
    return transform


def _write_rejects(outputs: Any, label: str, plan: RunPlan) -> None:
    rejected = outputs[REJECTED]
    rejected | f"{label}: write rejects" >> WriteRejects(folder=plan.rejects, run=plan.run)


def _refusing_steps(resolved: ResolvedJob, folder: str) -> list[ResolvedStep]:
    """The steps of this job that have rejects in `folder`; JobError for another job's."""
    names = set()
    for replayed in read_rejects(folder):
        names.add(replayed.step)
        writer = _job_of(folder, replayed)
        if writer not in (None, resolved.job.name, as_file_name(resolved.job.name)):
            raise JobError(
                f"--replay {folder}: these are rejects of the job {writer!r}, and this one is "
                f"{resolved.job.name!r}; replay them with their own job. If the job was only "
                f"renamed, add --set name={writer}"
            )
    known = {s.name for s in resolved.steps}
    if names - known:
        raise JobError(
            f"--replay {folder}: has rejects of step {min(names - known)!r}, and this job has "
            f"{', '.join(s.name for s in resolved.steps)}; replay with the job that wrote them"
        )
    return [s for s in resolved.steps if s.name in names]


def _job_of(folder: str, replayed: Replayed) -> str | None:
    """The job that a folder of rejects is called after; None where it was renamed."""
    name, run = Path(folder).resolve().name, f"-{replayed.line.get('run')}"
    return name.removesuffix(run) if name.endswith(run) else None


class _ReplayFn(beam.DoFn):
    """Gives the rows that one step refused as that step was given them."""

    def __init__(
        self,
        folder: str,
        resolved_step: ResolvedStep,
        context: StepContext,
        followed: Followed | None,
    ) -> None:
        self.folder, self.step, self.context = folder, resolved_step, context
        self.followed = followed

    def process(self, _: Any) -> Iterator[Any]:
        state, reporter, counts = self.context.state, Reporter(self.context), Counts()
        reader = self.step.logic(self.context) if self.step.kind.role == "reader" else None
        anew = self.followed and Anew(self.followed)
        for replayed in read_rejects(self.folder):
            if replayed.step != self.step.name or (anew and anew.key(replayed) is not None):
                continue
            if state.stop.is_set() or (state.over_limit and not state.goes_on()):
                break
            limit = self.context.read.row_limit
            if limit is not None and not state.hand_out(limit):
                state.end("limit")
            for item in _again(replayed, reader, self.context):
                state.add({"rows-read": 1})
                if not isinstance(item, Reject):
                    yield item
                    continue
                yield reporter.reject(item)
                if (instead := goes_on(item, counts)) is not None:
                    yield instead
        reporter.report(counts, now=True)


def _again(replayed: Replayed, reader: Any, context: StepContext) -> Iterator[Any]:
    """What the step was given, or what the reader makes of the record now."""
    origin = replayed.line["origin"]
    try:
        found: Any = replayed.change() if reader is None else replayed.raw()
    except ValueError as e:
        yield context.reject("cut", f"can't be replayed: {e}", origin=origin)
        return
    if found is None:  # refused by an earlier replay already: nothing of it may pass for a row
        yield context.reject("cut", str(replayed.line.get("message")), origin=origin)
    elif reader is None:
        yield found
    elif isinstance(reader, RereadsMany):
        yield from reader.reread_all(found, origin)
    else:
        yield reader.reread(found, origin)


@dataclass(kw_only=True, eq=False)
class _ReplayRejects(beam.PTransform):
    folder: str
    step: ResolvedStep
    context: StepContext
    followed: Followed | None

    def expand(self, begin: Any) -> Any:
        fn = _ReplayFn(self.folder, self.step, self.context, self.followed)
        return (
            begin
            | "Start" >> beam.Impulse()
            | "Read rejects" >> beam.ParDo(fn).with_outputs(REJECTED, main="rows")
        )
