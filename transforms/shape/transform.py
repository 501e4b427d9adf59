"""`FilterRows`, `EditColumns` and `DeduplicateRows`, in a Beam pipeline."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.steps import StepContext
from vecferry.transforms.shape.deduplicating import Deduplicator
from vecferry.transforms.shape.editing import Editor
from vecferry.transforms.shape.filtering import Filter
from vecferry.transforms.shape.settings import DeduplicateSettings, EditSettings, FilterSettings


@dataclass(kw_only=True, eq=False)
class _AtOnce(OperatorTransform):
    """A transform whose rows leave in the call that brought them, so Beam gives them their time."""

    def __post_init__(self) -> None:
        context = self.context or StepContext(step=self.verb, step_type=self.step_type)
        self.context = dataclasses.replace(context, stamped=False)


@dataclass(kw_only=True, eq=False)
class FilterRows(_AtOnce):
    """Leaves out the rows for which a condition is not true.

    Takes dicts; ``result.rows`` has those that meet the condition. ``result.rejected`` has a
    `Reject` for each row over which the condition has no value. Works in any window.
    """

    settings: FilterSettings

    verb = "Filter"
    step_type = "filter"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the filter on the worker."""
        return functools.partial(Filter, self.settings, None, context)


@dataclass(kw_only=True, eq=False)
class EditColumns(_AtOnce):
    """Edits columns of rows, rule by rule.

    Takes dicts; ``result.rows`` has copies of them, edited. ``result.rejected`` has a `Reject` for
    each row that a rule can't take. Works in any window.
    """

    settings: EditSettings

    verb = "Edit"
    step_type = "edit"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the editor on the worker."""
        return functools.partial(Editor, self.settings, None, context)


@dataclass(kw_only=True, eq=False)
class DeduplicateRows(_AtOnce):
    """Leaves out rows that repeat an earlier row of the same worker process.

    Takes dicts; ``result.rows`` has the first of each key. ``result.rejected`` has a `Reject` for
    each row without one of the columns. In several worker processes, each gives its own first.
    """

    settings: DeduplicateSettings

    verb = "Deduplicate"
    step_type = "deduplicate"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the operator on the worker."""
        return functools.partial(Deduplicator, self.settings, None, context)
