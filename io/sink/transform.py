"""The base of public writers: PTransforms that make a target's writer on each worker."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.io.sink.target import TargetBase, make_writer
from vecferry.settings import Settings
from vecferry.steps import StepContext

MakeTarget = Callable[[StepContext], TargetBase[Any, Any, Any]]


class TargetClass(Protocol):
    """A class of targets, as each connector has one."""

    def __call__(
        self, settings: Any, connection: Any, context: StepContext
    ) -> TargetBase[Any, Any, Any]:
        """The target that the settings name, behind the connection."""


@dataclass(kw_only=True, eq=False)
class WriteTransform(OperatorTransform):
    """Writes rows into a target; gives them on `written`, and `Reject`s on `rejected`.

    A subclass names its class of targets as `target`, and says what `settings` and `connection`
    are. With `prepared` the target has been made ready before the pipeline, and workers create
    nothing.

    Raises:
      ValueError: without `prepared`, settings that ask for what is done once in a job.
      JobError: the target can't be made of these settings and this connection.
    """

    settings: Settings
    connection: Settings | None
    prepared: bool = False

    target: ClassVar[TargetClass]
    main = "written"
    verb = "Write"

    def __post_init__(self) -> None:
        # No super().__init__(): the base is a dataclass, whose __init__ would clear the context.
        if self.prepared:
            return
        target = self.make_target()(StepContext(step=self.verb, step_type=self.step_type))
        refusal = target.unrepeatable()
        if refusal:
            raise ValueError(refusal)

    def make_target(self) -> MakeTarget:
        """A picklable function that makes the target."""
        return functools.partial(self.target, self.settings, self.connection)

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the writer."""
        return functools.partial(make_writer, self.make_target(), self.prepared, context)
