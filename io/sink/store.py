"""What a store gives to the write loop: records, outcomes, and the errors of a whole request.

A store is four small functions (`Store`). The loop of `vecferry.io.sink.writer` does the rest:
buffers, order, requests in flight, retries, halving, bisecting, counting.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from vecferry.errors import TerminalError
from vecferry.rows import Change

WRITTEN_STATE, STALE_STATE, REJECTED_STATE, RETRY_STATE = "written", "stale", "rejected", "retry"


class Record(NamedTuple):
    """A change as its store will get it.

    `op` is the store's own word for what is to be done (such as ``upsert`` or ``delete``), `body`
    its own form of the row. Changes with the same `key` are kept in order; None has no order.
    `size` is about how many bytes it takes in a request. If `whole` is False, the change does not
    replace what an earlier change of its key left. The earlier one then goes in an earlier request.
    """

    op: str
    key: Hashable | None
    body: Any
    size: int
    whole: bool = True


class Outcome(NamedTuple):
    """What became of one record of a request: written, stale, rejected or retry.

    `reason` (a short word) and `message` say why a record was rejected, or must be sent again.
    `retry_after` is the server's own wish, in seconds.
    """

    state: str
    reason: str = ""
    message: str = ""
    retry_after: float | None = None


WRITTEN = Outcome(WRITTEN_STATE)
STALE = Outcome(STALE_STATE)


def rejected(reason: str, message: str) -> Outcome:
    """The server refused this record, and will again."""
    return Outcome(REJECTED_STATE, reason, message)


def retry(message: str, retry_after: float | None = None) -> Outcome:
    """The server could not take this record now."""
    return Outcome(RETRY_STATE, "", message, retry_after)


class TooLargeError(TerminalError):
    """A request was too large as a whole: it is halved, and later ones are kept smaller.

    `passing` says that a single record is not at fault (a server short of memory): alone, it is
    sent again later. Without it a single record that is too large is rejected.
    """

    def __init__(self, message: str, reason: str = "too-large", passing: bool = False) -> None:
        super().__init__(message, reason)
        self.passing = passing

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.reason, self.passing)


class Store(Protocol):
    """One target, as the write loop sees it. `send` and `classify` are called from many threads."""

    def encode(self, change: Change) -> Record:
        """The change as the store will get it; raises TerminalError for a row it can't take."""

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys in one request; None means that all were written.

        May raise anything: `classify` says what it means.
        """

    def classify(self, error: Exception) -> Exception:
        """What an error of `send` means.

        `TransientError`: send again later. `TooLargeError`: send less at once. `FatalError`: the
        job fails. Another `TerminalError`: one of the records is at fault, find out which. Anything
        else is raised as it is.
        """


class Block(NamedTuple):
    """Changes, none a delete and no two of one key, as their store will get them all at once.

    `keys` are theirs, `size` is about how many bytes the block takes in a request.
    """

    changes: list[Change]
    keys: set[Any]
    body: Any
    size: int


class BlockStore(Store, Protocol):
    """A store that also takes many changes in one piece, which saves the cost of records."""

    def encode_block(self, changes: list[Change]) -> Block | None:
        """The changes as a block; None where one of them is better encoded by itself."""

    def send_block(self, block: Block) -> list[Outcome] | None:
        """Writes a block in one request, as `send` does with records."""


@dataclass(frozen=True, kw_only=True)
class WriteLimits:
    """How much one request may hold, and how many may be under way from one bundle."""

    rows: int = 1024
    bytes: int = 16 << 20
    in_flight: int = 4
