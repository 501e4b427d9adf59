"""Where positions are kept: names with bytes under them, created once and never overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often a place is written to, in seconds.

    Attributes:
      renew: how often a lease is renewed.
      dead: a lease that was not renewed for so long is dead.
      store: positions are stored at most so often, but for the last of a run.
    """

    renew: float
    dead: float
    store: float


NEAR = Pace(renew=3, dead=15, store=1)
"""For places where a write costs nothing: a folder of this machine, Redis."""

FAR = Pace(renew=10, dead=60, store=10)
"""For object stores, which bill each request."""


class Place(Protocol):
    """Names with bytes under them. Used by several threads and processes at once.

    A name has no slash. Each method raises `TransientError` while the service is away, and
    `FatalError` if it refuses.

    Attributes:
      where: what messages call the place; without a secret.
      pace: how often it may be written to.
    """

    where: str
    pace: Pace

    def names(self, prefix: str = "") -> list[str]:
        """The names that begin with `prefix`, in any order; none of a place that does not exist."""

    def read(self, name: str) -> bytes | None:
        """What was created under a name, whole; None if the name does not exist."""

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """Puts `data` under a name; False if the name exists, which is left as it is.

        Whoever is killed in here leaves the name with all of `data`, or no name. A `lasting` name
        survives the loss of power once this has returned.
        """

    def remove(self, name: str) -> None:
        """Removes a name; one that does not exist is removed already."""

    def age(self, name: str) -> float | None:
        """Seconds since a name was created, by the clock of the place; None if it is gone."""

    def check(self) -> None:
        """Makes sure that names are never overwritten here; raises JobError.

        Whoever takes a lease calls this once. What a killed process left behind is removed.
        """

    def close(self) -> None:
        """Lets go of connections."""
