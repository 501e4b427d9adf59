"""Tries the two ends of a job and what stands between them, without Beam."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from vecferry.errors import JobError, VecferryError
from vecferry.pipelines.job.clients import lacking
from vecferry.pipelines.job.feeds import unlike_keys
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.rejects import require_folder
from vecferry.process import end_run


def preflight(
    resolved: ResolvedJob, logic: JobLogic, *, reader: bool = True, paid: bool = False
) -> None:
    """Reaches every endpoint, the source and the target; JobError holds all that fails.

    With `paid` each embedding model embeds one short text; else its host is only connected to.
    """
    problems = [*resolved.unable(), *lacking(resolved)]
    if problems:
        raise JobError(problems)

    answers = True

    def attempt(name: str, look: Callable[[], object]) -> None:
        try:
            look()
        except VecferryError as e:
            texts = e.problems if isinstance(e, JobError) else [str(e)]
            mark = f"step {name!r}"
            problems.extend(t if mark in t else f"{mark}: {t}" for t in texts)

    for step in resolved.steps:
        if step.kind.logic is None:
            continue
        if step.kind.role == "reader":
            if reader:
                attempt(step.name, lambda: logic.source.check())
                answers = not problems
        elif step.kind.role == "writer":
            attempt(step.name, lambda: logic.target.check())
            if reader and answers:  # else the source is away, and would be waited for
                problems.extend(_unlike_keys(resolved, logic))
        else:
            attempt(step.name, functools.partial(_try, logic, step, paid))
    if problems:
        raise JobError(problems)


def connect_all(resolved: ResolvedJob, rejects: str) -> None:
    """Reaches all that a run would reach, the folder `rejects` included; raises JobError."""
    require_folder(os.path.join(rejects, "check"))
    logic = JobLogic(resolved, "check")
    try:
        preflight(resolved, logic, paid=True)
    finally:
        logic.close()
        end_run("check")


def _unlike_keys(resolved: ResolvedJob, logic: JobLogic) -> list[str]:
    """Problems of an id by which rows of the source would replace each other."""
    settings, writer = resolved.reader.settings, resolved.writer
    if not settings.tells_keys:
        return []
    try:
        keys = logic.change_source.keys()
    except VecferryError:
        return []  # the source's own check has told
    behind = [step.settings for step in resolved.transformers]
    where = f"step {writer.name!r}"
    return unlike_keys(keys, behind, writer.settings, where, follows=settings.follows)


def _try(logic: JobLogic, step: ResolvedStep, paid: bool) -> None:
    transformer = logic.transformer(step)
    if paid:
        transformer.check()
    else:
        transformer.reach()
