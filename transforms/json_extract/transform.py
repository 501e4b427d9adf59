"""`ExtractJson`: takes values out of JSON texts, in a Beam pipeline."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.steps import StepContext
from vecferry.transforms.json_extract.extractor import JsonExtractor
from vecferry.transforms.json_extract.settings import JsonExtractSettings


@dataclass(kw_only=True, eq=False)
class ExtractJson(OperatorTransform):
    """Adds columns taken out of JSON texts by JSONPath.

    Takes dicts; ``result.rows`` has copies of them with the new columns. ``result.rejected`` has a
    `Reject` for each row that lacks a value or has one of another type. Works in any window.
    """

    settings: JsonExtractSettings

    verb = "Extract JSON"
    step_type = "json-extracting"

    def __post_init__(self) -> None:
        # A row leaves in the call that brought it, so Beam itself gives it the right timestamp and
        # windows. To ask for them would cost 4 µs a row.
        context = self.context or StepContext(step=self.verb, step_type=self.step_type)
        self.context = dataclasses.replace(context, stamped=False)

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the extractor on the worker."""
        return functools.partial(JsonExtractor, self.settings, None, context)
