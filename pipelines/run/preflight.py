"""Tries the two ends of a job and what stands between them, without Beam."""

from __future__ import annotations

from vecferry.errors import JobError, VecferryError
from vecferry.pipelines.job.resolve import ResolvedJob, context_of


def preflight(resolved: ResolvedJob, run: str, *, reader: bool = True, paid: bool = False) -> None:
    """Reaches every endpoint, the source and the target; JobError holds all that fails.

    With `paid` each embedding model embeds one short text; else its host is only connected to.
    """
    problems: list[str] = []
    if resolved.unable():
        problems += resolved.unable()
    for step in resolved.steps:
        if step.kind.logic is None or (step.kind.role == "reader" and not reader):
            continue
        logic = step.logic(context_of(resolved, step, run))
        check = getattr(logic, "check", None)
        if step.kind.role == "transformer" and not paid:
            check = getattr(logic, "reach", None)
        if check is None:
            continue
        try:
            check()
        except VecferryError as e:
            texts = e.problems if isinstance(e, JobError) else [str(e)]
            mark = f"step {step.name!r}"
            problems += [t if mark in t else f"{mark}: {t}" for t in texts]
    if problems:
        raise JobError(problems)
