"""Contexts of steps, with everything that a test wants to say of a run in one line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vecferry.steps import Budget, ReadOptions, RunContext, StepContext, WriteOptions


def step_context(step: str, step_type: str, **given: Any) -> StepContext:
    """A context whose parts get those of the `given` values that they have."""
    budget = Budget(**_take(Budget, given))
    run = RunContext(**{"budget": budget, **_take(RunContext, given)})
    read, write = (kind(**_take(kind, given)) for kind in (ReadOptions, WriteOptions))
    return StepContext(
        step=step, step_type=step_type, shared=run, read=read, write=write, **given
    )  # what no part has is a fault, or the step's own


def _take(part: type, given: dict[str, Any]) -> dict[str, Any]:
    return {f.name: given.pop(f.name) for f in fields(part) if f.name in given}
