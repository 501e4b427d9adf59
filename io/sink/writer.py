"""The write loop that all stores share: it batches changes, keeps their order, and counts them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from vecferry.errors import FatalError, GivenUp, TerminalError
from vecferry.io.sink.delivery import Aborted, Courier, Delivery, Entry
from vecferry.io.sink.room import Room
from vecferry.io.sink.store import (
    REJECTED_STATE,
    STALE_STATE,
    WRITTEN,
    BlockStore,
    Outcome,
    Record,
    Store,
    WriteLimits,
    rejected,
)
from vecferry.io.sink.substitutes import Substitutes
from vecferry.rows import DELETE, INSERT, Change, Substitute, held_bytes
from vecferry.run.giving_up import STILL_SECONDS
from vecferry.steps import Counts, Emitted, Stamp, StepContext
from vecferry.threads import DaemonPool
from vecferry.waits import WAITS


class SinkWriter:
    """An operator that writes changes to a store.

    As many bytes of rows wait for a request as a request may hold (`WriteLimits`), columns that the
    store does not take among them.

    Of several changes of one key in a batch only the last is sent; those that it supersedes come
    out as written with it. Two requests with the same key are never in flight together. Emits each
    row, as it came in, once it is written; a row that a newer version in the store outlives is only
    counted (``rows-stale``). In place of a rejected change goes what the job says
    (`WriteOptions.on_reject`), which comes out as a row more.

    Counts ``rows-written, rows-deleted, rows-stale, rows-added, rows-replaced, rows-unfinished,
    write-requests, write-retries, write-msec``.
    """

    def __init__(self, store: Store, limits: WriteLimits, context: StepContext) -> None:
        self.counts = Counts()
        self._store, self.limits, self._context = store, limits, context
        self._encode = store.encode
        self._count_keys = context.write.count_keys
        self._room = context.once("room", Room)
        self._abort, self._halt = threading.Event(), threading.Event()
        self._what = f"step {context.step!r}"
        self._courier = Courier(
            store,
            self._what,
            context.retry_deadline,
            self._abort,
            self._substitutes(store),
            self._room,
            self._halt,
            context.run,
        )
        threads = limits.in_flight * max(1, context.shared.parallelism)
        name = f"write-{context.step}"
        self._pool = context.once("threads", lambda: DaemonPool(_call, threads, name))
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._under_way: dict[int, Delivery] = {}
        self._flying: set[Any] = set()
        self._abandoned = False
        self._clear()
        context.state.giving_up.tell(self._give_up)

    def _substitutes(self, store: Store) -> Substitutes[Record]:
        """What goes in place of a change that the store refuses."""
        write = self._context.write
        return Substitutes(store.encode, write.on_reject, write.vectors)

    def _clear(self) -> None:
        self._entries: list[Entry] = []
        self._places: dict[Any, int] = {}
        self._bytes = 0
        self._measure()

    def _measure(self) -> None:
        """Takes up what the room for a request is now."""
        self._max_rows, self._max_bytes = self._room.within(self.limits.rows, self.limits.bytes)

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a change; gives those written or rejected meanwhile. Waits where the store does."""
        try:
            entry = Entry(change, stamp, self._encode(change))
        except FatalError:
            raise
        except TerminalError as e:
            instead = self._courier.instead(change, stamp, rejected(e.reason, str(e)))
            if instead is None:
                reject = self._context.reject(e.reason, str(e), row=change)
                return [(reject, stamp), *self._ready()]
            entry = instead
        emitted: list[Emitted] = []
        _, key, _, size, whole = entry.record
        # What the store does not take of a row waits with it.
        size = max(size, held_bytes(entry.change))
        entries, places = self._entries, self._places
        if (self._bytes + size > self._max_bytes and entries) or (not whole and key in places):
            emitted = self._flush()
            entries, places = self._entries, self._places
        self._bytes += size
        if key is None:
            entries.append(entry)
        elif key in places:
            self._supersede(places[key], entry)
        else:
            places[key] = len(entries)
            entries.append(entry)
        if len(entries) >= self._max_rows:
            emitted += self._flush()
        if self._in_flight and not self._arrived.empty():
            emitted += self._ready()
        return emitted

    def _supersede(self, place: int, entry: Entry) -> None:
        """Buffers an entry in the place of an earlier one of its key."""
        entries = self._entries
        before = entries[place]
        if not _newer(before.change, entry.change):
            entry.earlier = before
            entries[place] = entry
            return
        # It arrived late, and is superseded already.
        while before.earlier is not None and _newer(before.earlier.change, entry.change):
            before = before.earlier
        entry.earlier, before.earlier = before.earlier, entry

    def finish(self) -> list[Emitted]:
        """Writes what is buffered and waits for everything in flight."""
        emitted = self._flush()
        while self._in_flight:
            emitted += self._wait()
        return emitted

    def close(self) -> None:
        """Gives up what is still in flight; after `finish` there is nothing."""
        self._abort.set()
        self._halt.set()
        self._context.state.giving_up.forget(self._give_up)

    @property
    def _in_flight(self) -> int:
        return len(self._under_way)

    def _give_up(self) -> None:
        """Called on another thread once an interrupted run waits for no store that is away."""
        self._halt.set()
        self._arrived.put(None)

    def _wait(self) -> list[Emitted]:
        """Waits for a batch to come back; gives its rows."""
        if not self._halt.is_set():
            return self._collect(self._arrived.get())
        patience = max(STILL_SECONDS, 2 * WAITS.longest(self._context.run, self._what))
        try:
            return self._collect(self._arrived.get(timeout=patience))
        except queue.Empty:
            self._abandon()
            return []

    def _abandon(self) -> None:
        """Leaves unfinished what waits for an answer that does not come."""
        self._abandoned = True
        for batch in self._under_way.values():
            self.counts.add("rows-unfinished", batch.rows)
        self._under_way, self._flying = {}, set()

    def _flush(self) -> list[Emitted]:
        """Sends the buffer off."""
        if not self._entries:
            return []
        batch = Delivery(self._entries, set(self._places))
        self._clear()
        return self._launch(batch)

    def _launch(self, batch: Delivery) -> list[Emitted]:
        """Has a batch delivered, once there is room and none of its keys is in flight."""
        emitted: list[Emitted] = []
        while self._in_flight >= self.limits.in_flight or not self._flying.isdisjoint(batch.keys):
            emitted += self._wait()
        if self._abandoned:
            self.counts.add("rows-unfinished", batch.rows)
            return emitted
        self._under_way[id(batch)] = batch
        self._flying |= batch.keys
        courier, arrived = self._courier, self._arrived

        def carry() -> None:
            courier.deliver(batch)
            arrived.put(batch)

        self._pool.put(carry)
        return emitted

    def _ready(self) -> list[Emitted]:
        emitted: list[Emitted] = []
        while self._in_flight and not self._arrived.empty():
            emitted += self._collect(self._arrived.get())
        return emitted

    def _collect(self, batch: Delivery | None) -> list[Emitted]:
        """Counts a batch that has come back; gives its rows, or raises what it failed with."""
        if batch is None or self._under_way.pop(id(batch), None) is None:
            return []  # a nudge, or a batch that was abandoned
        self._flying -= batch.keys
        counts = self.counts
        counts.add("write-requests", batch.requests)
        if batch.retries:
            counts.add("write-retries", batch.retries)
        for msec in batch.msec:
            counts.observe("write-msec", msec)
        self._measure()
        if isinstance(batch.error, GivenUp):
            counts.add("rows-unfinished", batch.unfinished)
            return self._emit(batch.done)
        if batch.error is not None:
            self._abort.set()
            if isinstance(batch.error, Aborted):
                raise RuntimeError(f"step {self._context.step!r} was closed while it wrote")
            raise batch.error
        if batch.whole and batch.block is not None:
            self.counts.add("rows-written", len(batch.stamps))
            if self._count_keys and _are_plain(batch.block.changes, batch.keys):
                self.counts.add_keys(batch.keys)
            return list(zip(batch.block.changes, batch.stamps, strict=True))
        return self._emit(batch.done)

    def _emit(self, done: list[tuple[Entry, Outcome]]) -> list[Emitted]:
        emitted: list[Emitted] = []
        written = deleted = stale = replaced = 0
        keys: list[Hashable] = []
        for entry, outcome in done:
            # Nearly all of them:
            if outcome is WRITTEN and entry.earlier is None and entry.refused is None:
                change = entry.change
                if change.kind == DELETE:
                    deleted += 1
                else:
                    written += 1
                    if change.version is None and change.kind == INSERT:
                        keys.append(entry.record.key)
                emitted.append((change, entry.stamp))
                continue
            state = outcome.state
            if state == REJECTED_STATE:
                emitted.append(self._reject(entry, entry.refused or (entry.change, outcome)))
                continue
            for each in (entry,) if entry.earlier is None else chain_of(entry):
                if each.refused is not None and type(each.refused[0]) is not Substitute:
                    emitted.append(self._reject(each, each.refused))
                    replaced += 1
                if state == STALE_STATE:
                    stale += 1
                    continue
                if each.change.kind == DELETE:
                    deleted += 1
                else:
                    written += 1
                    if each.change.version is None and each.change.kind == INSERT:
                        keys.append(each.record.key)
                emitted.append((each.change, each.stamp))
        for name, n in (
            ("rows-written", written),
            ("rows-deleted", deleted),
            ("rows-stale", stale),
            ("rows-added", replaced),
            ("rows-replaced", replaced),
        ):
            if n:
                self.counts.add(name, n)
        if self._count_keys and keys and None not in keys:
            self.counts.add_keys(keys)
        return emitted

    def _reject(self, entry: Entry, refused: tuple[Change, Outcome]) -> Emitted:
        change, why = refused
        key = entry.record.key
        return self._context.reject(why.reason, why.message, row=change, key=key), entry.stamp


def _call(carry: Callable[[], None]) -> None:
    carry()


def _are_plain(changes: Sequence[Change], keys: set[Hashable]) -> bool:
    """Whether the rows of a block, which holds no key twice, have keys and no versions."""
    return len(keys) == len(changes) and all(change.version is None for change in changes)


def chain_of(entry: Entry) -> list[Entry]:
    """An entry and those that it supersedes, the oldest first."""
    chain = [entry]
    while (before := chain[-1].earlier) is not None:
        chain.append(before)
    return chain[::-1]


def _newer(one: Change, other: Change) -> bool:
    return one.version is not None and other.version is not None and one.version > other.version


_FIRST = 64
"""Rows of the first block, from which the size of rows becomes known."""


class BlockWriter(SinkWriter):
    """A `SinkWriter` that gathers changes first, and sends them as a block if the store can.

    A delete, a second change of a key or a wrong row makes no block. The changes that were gathered
    with it go the way of a `SinkWriter`. What is left in its buffer is sent before a block.
    """

    def __init__(self, store: BlockStore, limits: WriteLimits, context: StepContext) -> None:
        super().__init__(store, limits, context)
        self._encode_block = store.encode_block
        self._most = min(limits.rows, _FIRST)
        self._gather()

    def _gather(self) -> None:
        self._changes: list[Change] = []
        self._stamps: list[Stamp] = []
        self._held = 0

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a change; gives those written or rejected meanwhile. Waits where the store does."""
        self._changes.append(change)
        self._stamps.append(stamp)
        self._held += held_bytes(change)
        if len(self._changes) >= self._most or self._held >= self._max_bytes:
            return self._send_off()
        if self._in_flight and not self._arrived.empty():
            return self._ready()
        return []

    def finish(self) -> list[Emitted]:
        """Writes what is buffered and waits for everything in flight."""
        return [*self._send_off(), *super().finish()]

    def _send_off(self) -> list[Emitted]:
        changes, stamps = self._changes, self._stamps
        if not changes:
            return []
        self._gather()
        block = self._encode_block(changes)
        if block is not None:
            a_row = max(1, block.size // len(changes))
            self._most = max(1, min(self._max_rows, self._max_bytes // a_row))
            if block.size <= self._max_bytes or len(changes) == 1:
                emitted = self._flush()
                return emitted + self._launch(Delivery([], block.keys, block, stamps))
        emitted = []
        for change, stamp in zip(changes, stamps, strict=True):
            emitted += super().process(change, stamp)
        return emitted
