"""What each command does, once its arguments are understood."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecferry.errors import JobError, VecferryError, printable, redact, shorten, written
from vecferry.pipelines.cli.output import as_json as json_text
from vecferry.pipelines.cli.output import (
    flush,
    require_writable,
    say,
    say_json,
    say_result,
    tell,
    warn,
)
from vecferry.pipelines.cli.telling import SILENT, TellOptions, told
from vecferry.pipelines.job.clients import lacking, require_clients
from vecferry.pipelines.run.interrupts import hold
from vecferry.process import end_run
from vecferry.rows import Reject, encode_value
from vecferry.transforms.embed.cache.settings import shown_uri

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob
    from vecferry.pipelines.run.estimate import Estimate
    from vecferry.pipelines.run.options import ClusterOptions
    from vecferry.pipelines.run.page import Course
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
    concurrent_runs: bool = False,
    runner: str,
    workers: int | None = None,
    cluster: ClusterOptions,
    beam_options: tuple[str, ...],
    as_json: bool,
    telling: TellOptions = SILENT,
) -> int:
    """Runs a job and says how it went; gives the exit status."""
    from vecferry.pipelines.run.options import RunOptions
    from vecferry.pipelines.run.positions import require_free

    telling.refuse(as_json=as_json)
    report, replay = report and os.path.expanduser(report), replay and os.path.expanduser(replay)
    rejects = os.path.expanduser(rejects)
    require_writable("--report", report)
    _require_rejects(rejects)
    options = RunOptions(
        runner=runner,
        workers=workers,
        beam_options=beam_options,
        rejects=rejects,
        replay=replay,
        limit=limit,
        continuous=continuous,
        until=until,
        preflight=preflight,
        concurrent_runs=concurrent_runs,
        cluster=cluster,
    )
    require_free(resolved, options)
    # Beam takes seconds to import.
    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.page import Course
    from vecferry.pipelines.run.report import STATUS

    hold()
    course = Course() if report is not None and report.endswith(".html") else None
    with told(telling, course) as all_told:
        with all_told.narrator:
            outcome = run_job(resolved, options, all_told.narrator)
        if report is not None:
            outcome = _save(report, outcome, course)
        all_told.end(outcome)
    _say_report(outcome, beside_events=telling.events == "-", as_json=as_json)
    return STATUS[outcome.state]


def _say_report(outcome: Report, *, beside_events: bool, as_json: bool) -> None:
    """Prints a report; where events are printed, it goes where messages go."""
    from vecferry.pipelines.run.summary import describe

    if beside_events:
        tell(describe(outcome))
    elif as_json:
        _warn_of(outcome)
        say_result(outcome.model_dump(), [outcome.error] if outcome.error else [])
    else:
        say(describe(outcome))


def _warn_of(report: Report) -> None:
    """Shows the notes of a report that warn."""
    from vecferry.pipelines.run.report import WARNING

    for note in report.notes:
        if note.startswith(WARNING):
            warn(note.removeprefix(WARNING))


def _require_rejects(folder: str) -> None:
    """Raises JobError where a folder of this machine can't take rejects; asks no server."""
    if "://" not in folder:
        require_writable("--rejects", os.path.join(folder, "run"))


def _save(path: str, outcome: Report, course: Course | None) -> Report:
    """Writes the report; a run whose report can't be written has FAILED, and says so itself."""
    from vecferry.pipelines.run.page import page

    text = json_text(outcome.model_dump()) + "\n" if course is None else page(outcome, course)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as e:
        why = f"--report {path}: can't be written: {e}; the rows are where they were written to"
        update = {
            "state": "CANCELLED" if outcome.state == "CANCELLED" else "FAILED",
            "error": f"{outcome.error}; {why}" if outcome.error else why,
        }
        return outcome.model_copy(update=update)
    return outcome


def check(
    resolved: ResolvedJob,
    *,
    connect: bool,
    estimate: bool,
    sample: int | None,
    rejects: str,
    as_json: bool,
) -> None:
    """Says that a job is right, and shows what the checks found."""
    rejects = os.path.expanduser(rejects)
    _require_rejects(rejects)
    if missing := lacking(resolved):
        raise JobError(missing)
    if (unstored := resolved.lacks_positions()) is not None:
        warn(f"run refuses the job, but for a full load with --into: {unstored}")
    found: dict[str, Any] = {
        "job": resolved.job.name,
        "steps": [{"name": s.name, "stepType": s.kind.step_type} for s in resolved.steps],
    }
    cache = resolved.job.setting.vector_cache
    if cache is not None:
        found["vectorCache"] = shown_uri(cache.uri)
    if connect:
        from vecferry.pipelines.run.preflight import connect_all

        connect_all(resolved, rejects)
        found["connected"] = True
    told = []
    if estimate or sample is not None:
        estimated = _estimate(resolved, sample)
        found["estimate"], told = asdict(estimated), _described(estimated)
    if as_json:
        say_result(found)
        return
    say(f"{resolved.job.name}: valid: {' → '.join(s.name for s in resolved.steps)}")
    if connect:
        say("  source, endpoint and target answer")
    if cache is not None:
        say(f"  vector cache: {found['vectorCache']}")
    for line in told:
        say(f"  {line}")
    for note in resolved.unable():
        say(f"  note: {note}")


def _estimate(resolved: ResolvedJob, sample: int | None) -> Estimate:
    """What a run would take; warns of what it may not take."""
    from vecferry.pipelines.run.dryrun import RUN
    from vecferry.pipelines.run.estimate import estimate

    if resolved.unable():
        raise JobError(resolved.unable())
    try:
        found = estimate(resolved, sample)
    except JobError:
        raise
    except VecferryError as e:  # a source that can't be read to its end, as --connect tells it
        raise JobError(str(e)) from e
    finally:
        end_run(RUN)
    for warning in _beyond_budget(resolved, found):
        warn(warning)
    return found


def _beyond_budget(resolved: ResolvedJob, estimate: Estimate) -> list[str]:
    """A warning for each part of the budget that a run is likely to exceed."""
    budget = resolved.job.setting.budget
    if budget is None:
        return []
    likely = {
        "requests": (budget.requests, estimate.requests),
        "tokens": (budget.tokens, estimate.tokens),
        "money": (budget.money, estimate.cost),
    }
    return [
        f"setting.budget.{name} is {bound:,}, and the run seems to take {needed:,.6g}; raise the "
        "budget, or rows will be left over"
        for name, (bound, needed) in likely.items()
        if bound is not None and needed is not None and needed > bound
    ]


def _described(found: Estimate) -> list[str]:
    """An estimate in lines for a person."""
    from vecferry.money import NANO, shown

    about = "" if found.sample is None or found.sample.share is None else "about "
    lines = [
        f"{field.name.replace('_', ' ')}: {about}{getattr(found, field.name):,}"
        for field in fields(found)
        if field.type == "int"
    ]
    lines += [f"  {about}{r.rows:,} rejected by {r.step}: {r.reason}" for r in found.rejected_by]
    if found.keys is not None:
        lines.append(f"keys: {'' if found.keys_exact else 'about '}{found.keys:,}")
    if found.cost is not None and found.currency is not None:
        lines.append(f"cost: about {shown(found.cost * NANO, found.currency)}")
    if found.sample is not None:
        share = found.sample.share
        of = "a part of unknown size" if share is None else f"about {share:.3g} of it"
        lines.append(f"sample: {found.sample.rows:,} rows of the source were read, {of}")
    return lines


def preview(
    resolved: ResolvedJob, rows: int, *, source_only: bool, as_json: bool, wide: bool = False
) -> int:
    """Shows rows after each step; gives the exit status, 1 if every row is rejected."""
    from vecferry.pipelines.cli.table import as_table
    from vecferry.pipelines.run import dryrun

    require_clients(resolved)
    try:
        stages = dryrun.preview(resolved, rows, source_only=source_only)
    except JobError:
        raise
    except VecferryError as e:
        raise JobError(str(e)) from e
    finally:
        end_run(dryrun.RUN)
    barren = dryrun.all_rejected(stages)
    if as_json:
        shown = [
            {
                "step": s.step,
                "rows": encode_value(s.rows),
                "rejects": [_reject(r) for r in s.rejects],
            }
            for s in stages
        ]
        say_result({"steps": shown}, [] if barren is None else [barren])
        return int(barren is not None)
    for stage in stages:
        say(f"after {stage.step}:")
        if stage.rows:
            say(as_table(stage.rows, _whole if wide else _short, wide=wide))
        if not stage.rows and not stage.rejects:
            say("  (no rows)")
        for reject in stage.rejects:
            say(f"  rejected ({reject.reason}): {redact(reject.message)}")
    if barren is not None:
        tell(f"error: {barren}")
    return int(barren is not None)


def _reject(reject: Reject) -> dict[str, Any]:
    return {"reason": reject.reason, "message": redact(reject.message), "origin": reject.origin}


def _name(column: object) -> str:
    return printable(str(column), one_line=True)


def _whole(value: Any) -> str:
    """A value for a wide table; a vector stays short, for nobody reads one."""
    return _short(value) if hasattr(value, "shape") else written(value, repr)


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        head = ", ".join(f"{x:.3f}" for x in value[:3])
        return f"[{head}, … {value.shape[0]} floats]"
    if isinstance(value, bytes) and len(value) > 100:
        return f"[{len(value):,} bytes]"
    if isinstance(value, list) and len(value) > 8:
        head = shorten(", ".join(map(shorten, value[:3])), 100)
        return f"[{head}, … {len(value)} items]"
    return shorten(value, 100, repr)


def query(
    resolved: ResolvedJob, wanted: str | bytes, k: int, column: str | None, *, as_json: bool
) -> None:
    """Searches a job's target for the rows nearest to a text, or to the bytes of an image."""
    from vecferry.pipelines.run.search import search

    hits = search(resolved, wanted, k, column)
    if as_json:
        say_result({"hits": encode_value(hits)})
        return
    for i, hit in enumerate(hits, 1):
        others = "  ".join(f"{_name(n)}={_short(v)}" for n, v in hit.items() if n != "score")
        say(f"{i}. {hit['score']:.4f}  {others}")
    if not hits:
        say("the target has no rows")


def schema(what: str = "job") -> None:
    """Prints the JSON Schema of jobs, of data sources, or of forms."""
    from vecferry.pipelines.job.forms import form_schema
    from vecferry.pipelines.job.schema import data_sources_schema, job_schema
    from vecferry.pipelines.registry import default

    for problem in default().problems():
        warn(problem)
    made = {"job": job_schema, "data-sources": data_sources_schema, "form": form_schema}
    say_json(made[what]())


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
