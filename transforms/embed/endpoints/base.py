"""The seam between the engine and what makes vectors.

An endpoint takes a list of inputs and gives one vector for each, or raises; all else (packing,
retrying, splitting, pacing, caching) is the engine's. Its errors beyond those of `vecferry.errors`:

    TransientError
    ├── ThrottledError      429: too many requests
    TerminalError
    ├── PoisonError         400, 413, 422: something in the batch is refused; the engine bisects it
    └── FatalError
        └── AbsentError     404, 405: nothing is served at the address
    BadResponseError        the answer does not fit the request: wrong count, index, size or value
    ├── ShapeError          the wrong number of vectors, or places that have no one reading
    └── DimensionError      every vector has the same wrong size
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecferry.budget import Charge
from vecferry.errors import FatalError, TerminalError, TransientError, VecferryError

Vector = npt.NDArray[np.float32]


class Image:
    """An image on its way to an endpoint; equal to every other of the same `key`.

    `key` is 20 bytes, made of the content as it was found and of the pixel bound. `data` is what is
    sent, of the format `kind` (jpeg, png, …). `tokens` is about what the image costs.
    """

    __slots__ = ("data", "key", "kind", "scaled", "tokens")

    def __init__(
        self, key: bytes, data: bytes = b"", kind: str = "", tokens: int = 0, scaled: bool = False
    ) -> None:
        self.key, self.data, self.kind = key, data, kind
        self.tokens, self.scaled = tokens, scaled

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return type(other) is Image and other.key == self.key


Content = str | Image
"""What an endpoint makes a vector of."""


@dataclass(slots=True)
class Answer:
    """One float32 vector of shape (dimension,) for each input, in their order, and the cost."""

    vectors: list[Vector]
    tokens: int = 0


class ThrottledError(TransientError):
    """The server takes no more for now; `retry_after` is its wish in seconds."""


class AbsentError(FatalError):
    """Nothing, or another service, is at the address."""


class PoisonError(TerminalError):
    """The server refuses the request for what it holds.

    `limit` is the number of inputs that the server says it takes, where it says one; `sent` is
    False where nothing went out. `long` says that the server speaks of a text's length, and
    `tokens` is the most that it names.
    """

    def __init__(
        self,
        message: str,
        reason: str = "refused-input",
        limit: int | None = None,
        sent: bool = True,
        long: bool = False,
        tokens: int | None = None,
    ) -> None:
        super().__init__(message, reason)
        self.limit, self.sent, self.long, self.tokens = limit, sent, long, tokens

    def __reduce__(self) -> Any:
        said = (self.limit, self.sent, self.long, self.tokens)
        return type(self), (str(self), self.reason, *said)


class BadResponseError(VecferryError):
    """An answer that can't be used: storing any of it might put a vector on the wrong row."""


class ShapeError(BadResponseError):
    """An answer that leaves open where its vectors belong."""


class DimensionError(BadResponseError):
    """Every vector of an answer has the size `given`, which is not the one asked for."""

    def __init__(self, message: str, given: int) -> None:
        super().__init__(message)
        self.given = given

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.given)


def charge_of(e: BaseException) -> Charge:
    """What a request that failed costs: its answer may be lost, or be useless, and yet be billed.

    An answer with a status other than 200 is not billed, nor is a request that nobody heard.
    """
    if isinstance(e, PoisonError) and not e.sent:
        return Charge(sent=False, billed=False)
    lost = e.__cause__ is not None and not isinstance(e.__cause__, ConnectionRefusedError)
    return Charge(sent=True, billed=isinstance(e, BadResponseError) or lost)


class Endpoint(Protocol):
    """What makes vectors; used by many threads at once."""

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of `inputs`, by one request; no input is empty."""

    def for_queries(self) -> Endpoint:
        """The endpoint for texts to search by; most make the same vectors of all texts."""

    def reach(self) -> None:
        """Connects without asking for anything; raises TransientError or FatalError."""

    def settle(self) -> None:
        """Raises FatalError if answers that were used may belong to other requests."""

    def close(self) -> None:
        """Closes idle connections."""
