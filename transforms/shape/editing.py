"""Edits the columns of a row, rule by rule.

Apart from `transform` because it knows nothing of Beam, and runs without it.
"""

from __future__ import annotations

from vecferry.rows import DELETE, Change
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.shape.expressions import ExpressionError
from vecferry.transforms.shape.operations import maker
from vecferry.transforms.shape.settings import EditSettings


class Editor(Transformer):
    """The operator of ``edit``.

    A delete passes with what could be made of it: it may hold its key only.
    """

    def __init__(self, settings: EditSettings, connection: None, context: StepContext) -> None:
        self.counts = Counts()
        self.context = context
        self._rules = [
            (i, rule, None if rule.operation == "drop" else maker(rule))
            for i, rule in enumerate(settings.rules)
        ]

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row as the rules make it, or its reject."""
        failed: list[tuple[str, str]] = []
        row = self._edited(change, failed, whole=change.kind == DELETE)
        if not failed or change.kind == DELETE:
            return [(row, stamp)]
        known = row
        if self.context.on_reject.concerns(change):
            known = self._edited(change, [], whole=True)
        reason, message = failed[0]
        return [(self.context.reject(reason, message, row=change, known=known), stamp)]

    def finish(self) -> list[Emitted]:
        """Nothing: no row waits here."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def _edited(self, change: Change, failed: list[tuple[str, str]], *, whole: bool) -> Change:
        """The row behind the rules, as far as they take it.

        With `whole`, a rule that fails leaves its column out, and the others go on.
        """
        row = change.with_columns({})
        for i, rule, make in self._rules:
            if make is None:
                row.pop(rule.column, None)
                continue
            try:
                value = make(row)
            except ExpressionError as e:
                failed.append((e.reason, f"rules[{i}] ({rule.operation} {rule.column!r}): {e}"))
                if not whole:
                    return row
                row.pop(rule.column, None)
                continue
            if rule.takes_away is not None:
                row.pop(rule.takes_away, None)
            row[rule.column] = value
        return row
