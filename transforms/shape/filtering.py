"""Leaves out the rows for which a condition is not true.

Apart from `transform` because it knows nothing of Beam, and runs without it.
"""

from __future__ import annotations

import dataclasses

from vecferry.rows import DELETE, Change
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.shape.expressions import Expression, ExpressionError
from vecferry.transforms.shape.settings import FilterSettings


class Filter(Transformer):
    """The operator of ``filter``.

    In place of an update that the condition leaves out, a delete goes on: an older row of its key
    may have passed.
    """

    def __init__(self, settings: FilterSettings, connection: None, context: StepContext) -> None:
        self.counts = Counts()
        self.context = context
        self._where = Expression(settings.where)
        instead = context.on_reject
        keeps = instead.mode == "keep"
        self._instead = dataclasses.replace(
            instead, mode="delete", plain=instead.plain and not keeps
        )

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row, its reject, or nothing where the condition leaves it out."""
        if change.kind == DELETE:
            return [(change, stamp)]
        try:
            passes = self._where(change)
        except ExpressionError as e:
            return [(self.context.reject(e.reason, f"where: {e}", row=change), stamp)]
        if passes is True:
            return [(change, stamp)]
        if passes is not False:
            message = (
                f"where: gives {type(passes).__name__}, and not true or false; compare it with a "
                "value"
            )
            return [(self.context.reject("wrong-type", message, row=change), stamp)]
        self.counts.add("rows-dropped")
        instead = self._instead.of(change)
        if instead is None:
            return []
        self.counts.add("rows-added")
        self.counts.add("rows-replaced")
        return [(instead, stamp)]

    def finish(self) -> list[Emitted]:
        """Nothing: no row waits here."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""
