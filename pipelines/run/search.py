"""A question to a job's target: a text or an image, embedded as the job embeds its rows.

Stands apart from `vecferry.pipelines.run.logic` because it is what two faces ask alike.
"""

from __future__ import annotations

from typing import Any

from vecferry.errors import JobError
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep
from vecferry.pipelines.run.logic import JobLogic
from vecferry.process import end_run


def search(
    resolved: ResolvedJob, wanted: str | bytes, k: int, column: str | None
) -> list[dict[str, Any]]:
    """The `k` rows of a job's target nearest to a text, or to the bytes of an image.

    `column` names the vector column if the job makes several. Raises JobError.
    """
    if resolved.unable():
        raise JobError(resolved.unable())
    step, vector_column = _embedding_of(resolved, column)
    logic = JobLogic(resolved, "query")
    try:
        vector = logic.transformer(step).embed_query(wanted)
        return list(logic.target.search(vector, k, vector_column))
    finally:
        logic.close()
        end_run("query")


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
        raise JobError(
            "this job writes no vectors of its own, so there is nothing to search; name a job with "
            "an embed step"
        )
    have = ", ".join(made)
    raise JobError(f"--column {column or ''}: name the vector column to search: {have}")
