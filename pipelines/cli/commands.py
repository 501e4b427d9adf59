"""What each command does, once its arguments are understood."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecferry.errors import JobError, VecferryError, printable, redact, shorten
from vecferry.pipelines.cli.output import as_json as json_text
from vecferry.pipelines.cli.output import flush, say, say_json, tell
from vecferry.pipelines.run.interrupts import hold
from vecferry.process import end_run
from vecferry.rows import Reject, encode_value
from vecferry.transforms.embed.cache.settings import shown_uri

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep
    from vecferry.pipelines.run.options import ClusterOptions
    from vecferry.pipelines.run.report import Report

INTERRUPTED = 130


def run(
    resolved: ResolvedJob,
    *,
    report: str | None,
    limit: int | None,
    rejects: str,
    replay: str | None,
    continuous: bool,
    until: str | None,
    preflight: bool,
    runner: str,
    cluster: ClusterOptions,
    beam_options: tuple[str, ...],
    as_json: bool,
) -> int:
    """Runs a job and says how it went; gives the exit status."""
    from rich.console import Console

    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.options import RunOptions
    from vecferry.pipelines.run.progress import ProgressLine
    from vecferry.pipelines.run.report import STATUS
    from vecferry.pipelines.run.summary import describe

    _require_writable("--report", report)
    _require_rejects(rejects)
    options = RunOptions(
        runner=runner,
        beam_options=beam_options,
        rejects=rejects,
        replay=replay,
        limit=limit,
        continuous=continuous,
        until=until,
        preflight=preflight,
        cluster=cluster,
    )
    hold()
    with ProgressLine(Console(stderr=True)) as progress:
        outcome = run_job(resolved, options, progress)
        if report is not None:
            outcome = _save(report, outcome)
    if as_json:
        say_json(outcome.model_dump())
    else:
        say(describe(outcome))
    return STATUS[outcome.state]


def _require_rejects(folder: str) -> None:
    """Raises JobError where a folder of this machine can't take rejects; asks no server."""
    if "://" not in folder:
        _require_writable("--rejects", os.path.join(folder, "run"))


def _require_writable(option: str, path: str | None) -> None:
    """Raises JobError before the run if a file cannot be written; folders may be new."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    while option == "--rejects" and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise JobError(
            f"{option} {path}: {folder} is not a folder that vecferry can write to; name another"
        )


def _save(path: str, outcome: Report) -> Report:
    """Writes the report; a run whose report can't be written has FAILED, and says so itself."""
    try:
        Path(path).write_text(json_text(outcome.model_dump()) + "\n", encoding="utf-8")
    except OSError as e:
        why = f"--report {path}: can't be written: {e}; the rows are where they were written to"
        update = {
            "state": "CANCELLED" if outcome.state == "CANCELLED" else "FAILED",
            "error": f"{outcome.error}; {why}" if outcome.error else why,
        }
        return outcome.model_copy(update=update)
    return outcome


def check(
    resolved: ResolvedJob, *, connect: bool, estimate: bool, rejects: str, as_json: bool
) -> None:
    """Says that a job is right, and shows what the checks found."""
    _require_rejects(rejects)
    found: dict[str, Any] = {
        "job": resolved.job.name,
        "steps": [{"name": s.name, "stepType": s.kind.step_type} for s in resolved.steps],
        "warnings": resolved.warnings,
    }
    cache = resolved.job.setting.vector_cache
    if cache is not None:
        found["vectorCache"] = shown_uri(cache.uri)
    if connect:
        from vecferry.pipelines.run.logic import JobLogic
        from vecferry.pipelines.run.preflight import preflight
        from vecferry.pipelines.run.rejects import require_folder

        require_folder(os.path.join(rejects, "check"))
        logic = JobLogic(resolved, "check")
        try:
            preflight(resolved, logic, paid=True)
        finally:
            logic.close()
            end_run("check")
        found["connected"] = True
    if estimate:
        from vecferry.pipelines.run import dryrun

        if resolved.unable():
            raise JobError(resolved.unable())
        try:
            found["estimate"] = asdict(dryrun.estimate(resolved))
        except JobError:
            raise
        except VecferryError as e:  # a source that can't be read to its end, as --connect tells it
            raise JobError(str(e)) from e
        finally:
            end_run(dryrun.RUN)
        for warning in _beyond_budget(resolved, found["estimate"]):
            found["warnings"] = [*found["warnings"], warning]
            tell(f"warning: {warning}")
    if as_json:
        say_json(found)
        return
    say(f"{resolved.job.name}: valid: {' → '.join(s.name for s in resolved.steps)}")
    if connect:
        say("  source, endpoint and target answer")
    if cache is not None:
        say(f"  vector cache: {found['vectorCache']}")
    for name, value in found.get("estimate", {}).items():
        say(f"  {name.replace('_', ' ')}: {value:,}")
    for note in resolved.unable():
        say(f"  note: {note}")


def _beyond_budget(resolved: ResolvedJob, estimate: dict[str, int]) -> list[str]:
    """A warning for each part of the budget that a run is likely to exceed."""
    budget = resolved.job.setting.budget
    parts = ("requests", "tokens") if budget is not None else ()
    bounds = {name: getattr(budget, name) for name in parts}
    return [
        f"setting.budget.{name} is {bound:,}, and the run seems to take {estimate[name]:,}, less "
        "what a vector cache holds; raise the budget, or rows will be left over"
        for name, bound in bounds.items()
        if bound is not None and estimate[name] > bound
    ]


def preview(resolved: ResolvedJob, rows: int, *, source_only: bool, as_json: bool) -> None:
    """Shows rows after each step."""
    from vecferry.pipelines.run import dryrun

    if resolved.unable():
        raise JobError(resolved.unable())
    try:
        stages = dryrun.preview(resolved, rows, source_only=source_only)
    except JobError:
        raise
    except VecferryError as e:
        raise JobError(str(e)) from e
    finally:
        end_run(dryrun.RUN)
    if as_json:
        shown = [
            {
                "step": s.step,
                "rows": encode_value(s.rows),
                "rejects": [_reject(r) for r in s.rejects],
            }
            for s in stages
        ]
        say_json(shown)
        return
    for stage in stages:
        say(f"after {stage.step}:")
        for row in stage.rows:
            say("  " + "  ".join(f"{_name(k)}={_short(v)}" for k, v in row.items()))
        if not stage.rows and not stage.rejects:
            say("  (no rows)")
        for reject in stage.rejects:
            say(f"  rejected ({reject.reason}): {redact(reject.message)}")


def _reject(reject: Reject) -> dict[str, Any]:
    return {"reason": reject.reason, "message": redact(reject.message), "origin": reject.origin}


def _name(column: object) -> str:
    return printable(str(column), one_line=True)


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        head = ", ".join(f"{x:.3f}" for x in value[:3])
        return f"[{head}, … {value.shape[0]} floats]"
    if isinstance(value, bytes) and len(value) > 100:
        return f"[{len(value):,} bytes]"
    if isinstance(value, list) and len(value) > 8:
        head = shorten(", ".join(map(str, value[:3])), 100)
        return f"[{head}, … {len(value)} items]"
    return shorten(repr(value), 100)


def query(
    resolved: ResolvedJob, wanted: str | bytes, k: int, column: str | None, *, as_json: bool
) -> None:
    """Searches a job's target for the rows nearest to a text, or to the bytes of an image."""
    from vecferry.pipelines.run.logic import JobLogic

    if resolved.unable():
        raise JobError(resolved.unable())
    step, vector_column = _embedding_of(resolved, column)
    logic = JobLogic(resolved, "query")
    try:
        vector = logic.transformer(step).embed_query(wanted)
        hits = logic.target.search(vector, k, vector_column)
    finally:
        logic.close()
        end_run("query")
    if as_json:
        say_json(encode_value(hits))
        return
    for i, hit in enumerate(hits, 1):
        others = "  ".join(f"{_name(n)}={_short(v)}" for n, v in hit.items() if n != "score")
        say(f"{i}. {hit['score']:.4f}  {others}")
    if not hits:
        say("the target has no rows")


def _embedding_of(resolved: ResolvedJob, column: str | None) -> tuple[ResolvedStep, str]:
    """The step that makes the target's vectors, and the column of these vectors."""
    writer = resolved.writer.settings
    listed = bool(writer.outputs()) and not writer.takes_other_columns
    taken = {*writer.inputs(), *(writer.outputs() or ())}
    made = {
        name: step
        for step in resolved.transformers
        for name in step.settings.makers()
        if not listed or name in taken
    }
    if column is None and len(made) == 1:
        column = next(iter(made))
    if column is not None and column in made:
        return made[column], column
    if not made:
        raise JobError("this job writes no vectors of its own, so there is nothing to search")
    have = ", ".join(made)
    raise JobError(f"--column {column or ''}: name the vector column to search: {have}")


def schema() -> None:
    """Prints the JSON Schema of jobs."""
    from vecferry.pipelines.job.schema import job_schema
    from vecferry.pipelines.registry import default

    for problem in default().problems():
        tell(f"warning: {problem}")
    say_json(job_schema())


def leave() -> None:
    """Ends a command that was interrupted: the threads of an aborted run cannot be awaited."""
    flush()
    os._exit(INTERRUPTED)


def leave_at_once() -> None:
    """Ends the process, whatever its threads do and hold."""
    shown = b"\x1b[?25h" if os.isatty(2) else b""  # the progress line hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, shown + b"interrupted\n")
    os._exit(INTERRUPTED)
