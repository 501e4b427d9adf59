"""The base of public writers: PTransforms that make a target's writer on each worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.io.sink.target import TargetBase, make_writer
from vecferry.steps import StepContext

MakeTarget = Callable[[StepContext], TargetBase[Any, Any, Any]]


@dataclass(kw_only=True, eq=False)
class WriteTransform(OperatorTransform):
    """Writes rows into a target; gives them on `written`, and `Reject`s on `rejected`.

    A subclass says by `make_target` how the target is made. With `prepared` the target has been
    made ready before the pipeline, and workers create nothing.

    Raises:
      ValueError: a target that is dropped and created anew, without `prepared`.
    """

    prepared: bool = False

    main = "written"
    verb = "Write"

    def __post_init__(self) -> None:
        # No super().__init__(): the base is a dataclass, whose __init__ would clear the context.
        if self.prepared:
            return
        target = self.make_target()(StepContext(step=self.verb, step_type=self.step_type))
        if target.recreates:
            raise ValueError(
                f"schemaCreateMode 'recreate' (or cleanup) would drop the {target.noun} again with "
                "each bundle that is repeated; drop it before the pipeline and use "
                "'createIfNotExist'"
            )

    def make_target(self) -> MakeTarget:
        """A picklable function that makes the target."""
        raise TypeError(f"{type(self).__name__} must say how its target is made")

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the writer."""
        return functools.partial(make_writer, self.make_target(), self.prepared, context)
