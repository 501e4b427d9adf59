"""`SplitText`: cuts documents into chunks, in a Beam pipeline."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.steps import StepContext
from vecferry.transforms.text_split.settings import TextSplitSettings
from vecferry.transforms.text_split.splitter import Splitter


@dataclass(kw_only=True, eq=False)
class SplitText(OperatorTransform):
    """Makes a row of each chunk of a document.

    Takes dicts; ``result.rows`` has for each of them as many rows as its text has chunks, with the
    other columns of the document. ``result.rejected`` has a `Reject` for each row without a text or
    without a name. Works in any window.

    With `whole_documents`, updates are split and deletes go on. The writer has a `parentKey` then.
    """

    settings: TextSplitSettings
    whole_documents: bool = False

    verb = "Split text"
    step_type = "text-splitting"

    def __post_init__(self) -> None:
        # Chunks leave in the call that brought the document, so Beam itself gives them their time.
        context = self.context or StepContext(step=self.verb, step_type=self.step_type)
        whole = context.whole_documents or self.whole_documents
        self.context = dataclasses.replace(context, stamped=False, whole_documents=whole)

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the splitter on the worker."""
        return functools.partial(Splitter, self.settings, None, context)
