"""Brings one batch into a store: retries, halves, and finds the rows at fault. Runs in a thread.

Stands apart from `writer` because it runs in threads, and the writer on the thread of the bundle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vecferry.errors import FatalError, GivenUp, TerminalError, TransientError, redact, shorten
from vecferry.io.sink.parents import Document
from vecferry.io.sink.room import Room
from vecferry.io.sink.store import (
    REJECTED_STATE,
    RETRY_STATE,
    WRITTEN,
    Block,
    BlockStore,
    Outcome,
    Record,
    Store,
    TooLargeError,
    rejected,
)
from vecferry.io.sink.substitutes import Candidates, Substitutes
from vecferry.retry import Backoff
from vecferry.rows import Change
from vecferry.steps import Stamp
from vecferry.waits import WAITS

Answer = tuple[list[Outcome] | None, Exception | None]


class Entry:
    """A change on its way, and the earlier change of the same key that it supersedes.

    An entry may stand in place of a refused one. Then `refused` is the change that was refused, and
    why. `more` gives what is sent if this entry is refused as well.
    """

    __slots__ = ("change", "earlier", "more", "record", "refused", "stamp")

    earlier: Entry | None
    refused: tuple[Change, Outcome] | None
    more: Candidates | None

    def __init__(self, change: Change, stamp: Stamp, record: Record) -> None:
        self.change, self.stamp, self.record = change, stamp, record
        self.earlier = self.refused = self.more = None

    @property
    def changes(self) -> int:
        """How many rows this is: its own, a document's are many, and those that it supersedes."""
        own = len(self.change.chunks) if isinstance(self.change, Document) else 1
        return own + (self.earlier.changes if self.earlier is not None else 0)


@dataclass(slots=True)
class Delivery:
    """A batch: what is to be sent, and afterwards what became of it."""

    entries: list[Entry]
    keys: set[Any]
    block: Block | None = None
    """What to send at first; `entries` is empty until rows must be looked at one by one."""
    stamps: list[Stamp] = field(default_factory=list)
    """Of the changes of `block`."""
    done: list[tuple[Entry, Outcome]] = field(default_factory=list)
    whole: bool = False
    """All of `block` was written; nothing is in `done`."""
    requests: int = 0
    retries: int = 0
    msec: list[float] = field(default_factory=list)
    error: BaseException | None = None
    left: list[_Part] = field(default_factory=list)
    """What is still to be sent; of a batch that was given up, what is unfinished."""

    @property
    def unfinished(self) -> int:
        """How many changes of a batch that was given up were not delivered."""
        return sum(e.changes for part in self.left for e in part.entries)

    @property
    def rows(self) -> int:
        """How many changes are in the batch."""
        if self.block is not None:
            return len(self.block.changes)
        return sum(e.changes for e in self.entries)


class Aborted(Exception):
    """The bundle has failed; this batch will come again."""


class _Part:
    """Entries that go in one request, and the failed request of which they are a part."""

    __slots__ = ("entries", "size", "whole")

    def __init__(self, entries: list[Entry], whole: _Whole | None = None) -> None:
        self.entries, self.whole = entries, whole
        self.size = sum(e.record.size for e in entries)

    def parted(self, counts: list[int], whole: _Whole | None) -> list[_Part]:
        """The entries in parts of so many, the first one last."""
        parts: list[_Part] = []
        at = 0
        for count in counts:
            parts.insert(0, _Part(self.entries[at : at + count], whole))
            at += count
        return parts


class _Whole:
    """A request that failed as a whole, of which parts are sent; `good` while none is rejected."""

    __slots__ = ("error", "good", "left", "rows", "size", "whole")

    def __init__(self, part: _Part, left: int, error: Exception | None) -> None:
        self.rows, self.size, self.whole = len(part.entries), part.size, part.whole
        self.left, self.error, self.good = left, error, True

    def teach(self, room: Room) -> None:
        """Tells what follows from the parts, which were all served."""
        if isinstance(self.error, TooLargeError):
            return  # the server told by itself
        sure = isinstance(self.error, TerminalError)
        if sure or self.whole is None:
            room.exceed(self.rows, self.size, sure=sure)


class Courier:
    """Delivers batches to one store on behalf of one operator."""

    def __init__(
        self,
        store: Store,
        what: str,
        deadline: float | None,
        abort: threading.Event,
        substitutes: Substitutes[Record],
        room: Room,
        halt: threading.Event | None = None,
        run: str = "",
    ) -> None:
        self._halt, self._run = halt or abort, run
        self.store, self.what, self.deadline, self.abort = store, what, deadline, abort
        self._substitutes, self.room = substitutes, room

    def instead(self, change: Change, stamp: Stamp, outcome: Outcome) -> Entry | None:
        """What is sent in place of a change that has no form in the store; None if nothing is."""
        return _first(self._substitutes.of(change), (change, outcome), stamp)

    def deliver(self, batch: Delivery) -> None:
        """Sends a batch until every entry is done; what can't be overcome goes to its `error`."""
        try:
            self._deliver(batch)
        except BaseException as e:  # handed to the bundle's thread, which raises it
            batch.error = e
        finally:
            WAITS.over(id(batch))

    def _deliver(self, batch: Delivery) -> None:
        answer = None
        if batch.block is not None:
            answer = self._send_block(batch, batch.block)
            if batch.whole:
                return
        batch.left = todo = [_Part(batch.entries)]
        backoff: Backoff | None = None
        while todo:
            part = todo.pop()
            answer = answer or self._send(batch, part)
            if answer is None:  # it has become too large
                todo += self._cut(part)
                continue
            outcomes, error = answer
            answer = None
            if outcomes is None and error is None:
                batch.done += [(entry, WRITTEN) for entry in part.entries]
                self._finish(part.whole, good=True)
                backoff = None
                continue
            if outcomes is not None:
                again = self._sort(batch, part.entries, outcomes)
                good = all(outcome.state != REJECTED_STATE for outcome in outcomes)
                if part.whole is not None and not good:
                    part.whole.good = False
                if len(again) < len(part.entries):
                    backoff = None  # something got through: the server is there
                if not again:
                    self._finish(part.whole, good=good)
                    continue
                error = _why(part.entries, outcomes)
                todo.append(_Part(again, part.whole))
                if error is None:  # other changes in place of rejected ones: no wait
                    continue
            elif self._splits(part, error):
                todo += self._halves(part, error)
                continue
            elif isinstance(error, TerminalError) and not _passing(error):
                entry = part.entries[0]
                if part.whole is not None:
                    part.whole.good = False
                follower = self._refuse(batch, entry, rejected(error.reason, str(error)))
                if follower is not None:
                    todo.append(_Part([follower], part.whole))
                else:
                    self._finish(part.whole, good=False)
                continue
            else:
                todo.append(part)
            backoff = backoff or Backoff(deadline=self.deadline)
            self._wait(batch, backoff, error)
            batch.retries += 1

    def _cut(self, part: _Part) -> list[_Part]:
        """A part in requests for which there is room."""
        counts = self.room.cut([e.record.size for e in part.entries])
        if part.whole is not None:
            part.whole.left += len(counts) - 1
        return part.parted(counts, part.whole)

    def _splits(self, part: _Part, error: Exception | None) -> bool:
        """Whether halves of a part are to be sent after its request has failed."""
        rows = len(part.entries)
        if isinstance(error, TerminalError):
            return rows > 1
        return self.room.fail(rows, part.size)

    def _halves(self, part: _Part, error: Exception | None) -> list[_Part]:
        """A part whose request has failed, in two parts, or in more if there is less room."""
        rows = len(part.entries)
        counts = self.room.cut([e.record.size for e in part.entries])
        if len(counts) == 1:
            counts = [(rows + 1) // 2, rows // 2]
        whole = _Whole(part, len(counts), error)
        return part.parted(counts, whole)

    def _finish(self, whole: _Whole | None, *, good: bool) -> None:
        """Ends a part; the last one tells whether the whole was too large."""
        while whole is not None:
            whole.good = whole.good and good
            whole.left -= 1
            if whole.left:
                return
            good = whole.good
            if good:
                whole.teach(self.room)
            whole = whole.whole

    def _send_block(self, batch: Delivery, block: Block) -> Answer | None:
        """The answer for a block; unless all of it was written, its rows are then in `entries`.

        None if it has become larger than the bounds, and was not sent.
        """
        store: BlockStore = self.store  # type: ignore[assignment]
        rows = len(block.changes)
        answer = self._ask(batch, rows, block.size, lambda: store.send_block(block))
        batch.whole = answer == (None, None)
        if not batch.whole:
            batch.entries = [
                Entry(change, stamp, store.encode(change))
                for change, stamp in zip(block.changes, batch.stamps, strict=True)
            ]
        return answer

    def _send(self, batch: Delivery, part: _Part) -> Answer | None:
        entries = part.entries
        return self._ask(
            batch, len(entries), part.size, lambda: self.store.send([e.record for e in entries])
        )

    def _ask(
        self, batch: Delivery, rows: int, size: int, send: Callable[[], list[Outcome] | None]
    ) -> Answer | None:
        """The outcomes of one request, or the error it failed with if that can be dealt with.

        Neither means that all is written; None that the request is too large now, and unsent.
        """
        room = self.room
        entered = room.enter(rows, size, self.abort)
        if self.abort.is_set():
            if entered:
                room.leave(rows, size, served=False)
            raise Aborted
        if not entered:
            return None
        batch.requests += 1
        served = False
        began = time.monotonic()
        try:
            with WAITS.request(self.what, "the store", self._run):
                outcomes = send()
            served = True
        except Exception as e:
            error = self.store.classify(e)
            if isinstance(error, TooLargeError) and rows > 1:
                room.refuse(rows, size, passing=error.passing)
            if isinstance(error, FatalError) or not isinstance(
                error, TransientError | TerminalError
            ):
                raise error from e
            return None, error
        finally:
            room.leave(rows, size, served=served)
            batch.msec.append((time.monotonic() - began) * 1000)
        return outcomes, None

    def _sort(self, batch: Delivery, part: list[Entry], outcomes: list[Outcome]) -> list[Entry]:
        """Puts aside what is done; gives what is to be sent again."""
        if len(outcomes) != len(part):
            raise FatalError(
                f"{self.what}: the store answered for {len(outcomes)} of {len(part)} rows"
            )
        again: list[Entry] = []
        for entry, outcome in zip(part, outcomes, strict=True):
            if outcome.state == RETRY_STATE:
                again.append(entry)
                continue
            if outcome.state != REJECTED_STATE:
                batch.done.append((entry, outcome))
                continue
            follower = self._refuse(batch, entry, outcome)
            if follower is not None:
                again.append(follower)
        return again

    def _refuse(self, batch: Delivery, entry: Entry, outcome: Outcome) -> Entry | None:
        """What is sent in place of a refused entry.

        That is what the job wants in place of a rejected change. Where the job wants nothing, it
        is the earlier change of the key, which the refused one no longer supersedes.
        """
        if entry.more is None:
            entry.more = self._substitutes.of(entry.change)
        follower = _first(entry.more, entry.refused or (entry.change, outcome), entry.stamp)
        if follower is None:
            batch.done.append((entry, outcome))
            return entry.earlier
        follower.earlier = entry.earlier
        return follower

    def _wait(self, batch: Delivery, backoff: Backoff, error: Exception | None) -> None:
        rows = sum(len(part.entries) for part in batch.left)
        wish = error.retry_after if isinstance(error, TransientError) else None
        wait = backoff.next_wait(wish)
        why = shorten(redact(str(error)), 300)
        if wait is None:
            raise TransientError(
                f"{self.what}: gave up writing {rows} rows after {backoff.tries} tries "
                f"within {self.deadline:.0f} s: {why}"
            ) from error
        WAITS.failed(
            id(batch), self.what, why, tries=backoff.tries, left=backoff.left, run=self._run
        )
        if self._halt.wait(wait):
            if self.abort.is_set():
                raise Aborted
            raise GivenUp(f"{self.what}: the run was interrupted while the store was away: {why}")


def _first(more: Candidates, refused: tuple[Change, Outcome], stamp: Stamp) -> Entry | None:
    found = next(more, None)
    if found is None:
        return None
    change, record = found
    entry = Entry(change, stamp, record)
    entry.more, entry.refused = more, refused
    return entry


def _passing(error: TerminalError) -> bool:
    return isinstance(error, TooLargeError) and error.passing


def _why(part: list[Entry], outcomes: list[Outcome]) -> TransientError | None:
    """The error that stands for the records to be retried, with the longest wait asked for."""
    waits = [o for o in outcomes if o.state == RETRY_STATE]
    if not waits:
        return None
    asked = [o.retry_after for o in waits if o.retry_after is not None]
    return TransientError(
        f"{len(waits)} of {len(part)} rows: {waits[0].message}", max(asked) if asked else None
    )
