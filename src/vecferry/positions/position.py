"""How far a source has been read.

Stands apart from the package because stores of positions import it, and the package their names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal["full", "changes"]
"""``full`` while parts of a full load are left, ``changes`` afterwards."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a source has been read.

    Attributes:
      epoch: grows whenever older versions can no longer be compared (`vecferry.versions`).
      identity: which table or server was read, in the source's own words.
      phase: whether parts of a full load are left.
      at: the place, as values of JSON that only the source understands.
      time: when the round ended that led here, in seconds since 1970.
      loaded: the epoch in which the last load of all rows began; 0 if that is not known.
    """

    epoch: int
    identity: str
    phase: Phase
    at: Any
    time: float = field(default_factory=time.time)
    loaded: int = 0
