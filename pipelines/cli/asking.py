"""``vecferry verify`` and ``vecferry resync``; and how all commands ask a sync for something.

Apart from `vecferry.pipelines.cli.positions` because these read source and target.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli.options import JobArguments, job_arguments, json_option
from vecferry.pipelines.cli.output import say, say_result, tell
from vecferry.pipelines.run.interrupts import hold

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob
    from vecferry.positions.requests import Answer, Json, Request, RequestKind
    from vecferry.positions.store import Positions

FAILED, INVALID = 1, 2
SOURCE_SECONDS = 60.0
"""How long a comparison waits for a source that is away: somebody waits for its end."""

rejects_option = click.option(
    "--rejects", default="rejects", show_default=True, help="Folder for rejected rows."
)


@click.command()
@job_arguments
@click.option("--repair", is_flag=True, help="Mend what differs, and nothing else.")
@rejects_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context, arguments: JobArguments, repair: bool, rejects: str, as_json: bool
) -> None:
    """Compare the target of the sync JOB with its source, key by key. Exit status 1: they differ.

    With --repair, a run that holds the sync mends what differs between two rounds; without a run,
    this command does.
    """
    resolved = followed(arguments)
    if repair:
        answer = asked(resolved, "repair", {}, in_rounds(resolved, rejects))
        ctx.exit(_tell_answer(resolved, answer, as_json))
    ctx.exit(_compare(resolved, as_json))


@click.command()
@job_arguments
@click.option("--from", "first", metavar="KEY", help="Only rows from this key on.")
@click.option("--to", "last", metavar="KEY", help="Only rows up to this key.")
@rejects_option
@json_option
@click.pass_context
def resync(
    ctx: click.Context,
    arguments: JobArguments,
    first: str | None,
    last: str | None,
    rejects: str,
    as_json: bool,
) -> None:
    """Read the source of the sync JOB again, all of it or a range of keys, while the sync runs.

    The target stays searchable. A run that holds the sync reads between its rounds; without a run,
    this command does.
    """
    resolved = followed(arguments)
    if first is not None or last is not None:
        _require_range(resolved, first, last)
    given: dict[str, Json] = {"first": first, "last": last}
    answer = asked(resolved, "resync", given, in_rounds(resolved, rejects))
    ctx.exit(_tell_answer(resolved, answer, as_json))


def followed(arguments: JobArguments) -> ResolvedJob:
    """A job whose reader follows its source; raises JobError for another one."""
    resolved = arguments.resolve()
    reader = resolved.reader
    if not reader.settings.follows:
        raise JobError(
            f"{arguments.job}: step {reader.name!r} ({reader.kind.step_type}) reads all rows each "
            "time, so the job has no position; see the report of its run"
        )
    return resolved


def asked(
    resolved: ResolvedJob,
    kind: RequestKind,
    given: dict[str, Json],
    alone: Callable[[Request], str | None],
) -> Answer:
    """What a sync answers; `alone` does the work where no run holds the sync. Raises JobError."""
    from vecferry.pipelines.run.ask import Asking, asker
    from vecferry.pipelines.run.positions import positions_of
    from vecferry.positions.requests import Request

    hold()
    request = Request(kind=kind, arguments=given, asked_by=asker())
    answer = Asking(positions_of(resolved), alone, tell).answered(request)
    if answer.status == INVALID:
        raise JobError(answer.text)
    return answer


def in_rounds(resolved: ResolvedJob, rejects: str) -> Callable[[Request], str | None]:
    """Carries requests out by the loop of a sync."""

    def alone(request: Request) -> str | None:
        from vecferry.pipelines.cli.telling import SILENT, told
        from vecferry.pipelines.launch import carry_out
        from vecferry.pipelines.run.options import RunOptions

        with told(SILENT) as telling, telling.narrator:
            report = carry_out(resolved, RunOptions(rejects=rejects), telling.narrator)
        if report.state == "CANCELLED":
            raise KeyboardInterrupt
        return report.error

    return alone


def _require_range(resolved: ResolvedJob, first: str | None, last: str | None) -> None:
    """Raises JobError where the source can't read a range of keys, or not these."""
    from vecferry.pipelines.run.logic import JobLogic
    from vecferry.pipelines.run.requests import span_of_keys
    from vecferry.process import end_run

    run = f"resync-{uuid.uuid4().hex[:6]}"
    logic = JobLogic(resolved, run, retry_deadline=SOURCE_SECONDS)
    try:
        span_of_keys(logic.source, None, first, last)
    finally:
        logic.close()
        end_run(run)


def _compare(resolved: ResolvedJob, as_json: bool) -> int:
    """Compares and tells; gives the exit status."""
    from vecferry.pipelines.job.vectors import with_vectors_kept
    from vecferry.pipelines.run.at_position import SourceRows, verify_sync
    from vecferry.pipelines.run.logic import JobLogic
    from vecferry.pipelines.run.positions import positions_of
    from vecferry.process import end_run

    positions = positions_of(resolved)
    resolved = with_vectors_kept(resolved, here=True)
    run = f"verify-{uuid.uuid4().hex[:6]}"
    logic = JobLogic(resolved, run, retry_deadline=SOURCE_SECONDS, resumed=True)
    try:
        result = verify_sync(SourceRows(resolved, logic), positions, tell)
    finally:
        logic.close()
        end_run(run)
    told = result.to_json()
    if as_json:
        say_result(_named(resolved, positions, told))
    else:
        say("\n".join(described(resolved.job.name, told)))
    return 0 if result.same else FAILED


def _tell_answer(resolved: ResolvedJob, answer: Answer, as_json: bool) -> int:
    """Tells what a sync answered; gives the exit status."""
    from vecferry.pipelines.run.positions import positions_of

    told = answer.result if isinstance(answer.result, dict) else {}
    if as_json:
        given = {"answer": answer.text, "status": answer.status, **told}
        say_result(_named(resolved, positions_of(resolved), given))
    else:
        if "found" in told:
            say("\n".join(described(resolved.job.name, told)))
        say(f"{resolved.job.name}: {answer.text}")
    return answer.status


def _named(resolved: ResolvedJob, positions: Positions, told: dict[str, Any]) -> dict[str, Any]:
    return {"job": resolved.job.name, "positions": positions.where, **told}


def described(job: str, told: dict[str, Any]) -> list[str]:
    """What a comparison found, as `Verified.to_json` has it, in lines for a person."""
    from vecferry.pipelines.run.verify import KINDS

    differ = sum(told["found"].values())
    sizes = f"{told['source']:,} rows in the source, {told['target']:,} in the target"
    how = f"{differ:,} differ" if differ else "equal"
    lines = [f"{job}: {how}: {sizes}"]
    for kind, meaning in KINDS.items():
        if told["found"][kind]:
            shown = ", ".join(map(_example, told["examples"].get(kind, [])))
            lines.append(f"  {kind} {told['found'][kind]:,}: {meaning}: {shown}")
    notes = {
        "moving": "rows differ and changed since the position: not judged, the sync writes them",
        "unknown": "vectors not compared: of images, or of texts that no vector cache holds",
        "refused": "rows of the source that a step or the target refuses",
        "unread": "records of the source that can't be read, so nothing counts as gone there",
    }
    lines += [f"  {told[name]:,} {text}" for name, text in notes.items() if told[name]]
    if told["uncompared"]:
        lines.append(f"  fields not compared: {', '.join(told['uncompared'])}")
    return lines


def _example(example: dict[str, Any]) -> str:
    fields = example.get("fields")
    return f"{example['key']} ({', '.join(fields)})" if fields else str(example["key"])
