"""What threads tell the engine: each message says itself what the engine is to do.

The engine takes messages from one queue, on the bundle's thread. Batches come from the threads of
the outbox, and images from those of `images`. Single vectors come from other bundles of the
process, and many at once from the thread that reads the vector cache.

Apart from `engine` because the outbox and what bundles share post messages without knowing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vecferry.transforms.embed.endpoints.base import Content, Vector
from vecferry.transforms.embed.images.messages import ImageTaker
from vecferry.transforms.embed.rows import Waiter

if TYPE_CHECKING:
    from vecferry.transforms.embed.caller import Outcome
    from vecferry.transforms.embed.outbox import Input


class Engine(ImageTaker[Waiter], Protocol):
    """What messages act on."""

    def take_batch(self, batch: list[Input], outcome: Outcome) -> None:
        """Gives the rows that wait for a batch their vectors; raises what ends the bundle."""

    def take_vector(self, content: Content, vector: Vector | None) -> None:
        """Gives the rows that wait for an input its vector; with None sends the input itself."""

    def take_looked_up(self, inputs: list[Input], vectors: list[Vector | None]) -> None:
        """Gives the rows that wait for inputs their vectors; those without one are sent."""


class Message(Protocol):
    """Something that happened on another thread."""

    def apply(self, engine: Engine) -> None:
        """Lets the engine do what follows from it; raises what ends the bundle."""


@dataclass(slots=True)
class BatchDone:
    """A batch has come back."""

    batch: list[Input]
    outcome: Outcome

    def apply(self, engine: Engine) -> None:
        """Gives its rows their vectors."""
        engine.take_batch(self.batch, self.outcome)


@dataclass(slots=True)
class BatchBroke:
    """The thread of a batch failed by a defect, of ours or of a library."""

    error: Exception

    def apply(self, engine: Engine) -> None:
        """Ends the bundle."""
        raise self.error


@dataclass(slots=True)
class VectorCame:
    """An input has its vector from elsewhere; None means that it has to be sent here."""

    content: Content
    vector: Vector | None

    def apply(self, engine: Engine) -> None:
        """Gives its rows the vector."""
        engine.take_vector(self.content, self.vector)


@dataclass(slots=True)
class LookedUp:
    """Inputs were looked up in the vector cache, which lacks those whose vector is None."""

    inputs: list[Input]
    vectors: list[Vector | None]

    def apply(self, engine: Engine) -> None:
        """Gives their rows what was found."""
        engine.take_looked_up(self.inputs, self.vectors)


class Nudge:
    """Nothing happened, but whoever waits is to look again."""

    def apply(self, engine: Engine) -> None:
        """Nothing."""
