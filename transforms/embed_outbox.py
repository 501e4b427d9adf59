"""Texts on their way to the endpoint: looked up, packed, sent by threads, taken up again.

Everything but `_work`, `_keep` and `_land` runs on the bundle's thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from vecferry.steps import Counts
from vecferry.transforms.embed_caller import Caller, Fate, Outcome
from vecferry.transforms.embed_long import estimate_tokens
from vecferry.transforms.embed_settings import EmbedSettings
from vecferry.transforms.embed_shared import Shared, cache_key
from vecferry.transforms.embed_workers import Workers

LOOKUP = 64
"""Texts that are looked up in the vector cache at once."""


class Input:
    """A distinct text and the rows, with their vector columns, that wait for its vector."""

    __slots__ = ("alone", "rows", "text")

    def __init__(self, text: str, row: Any, column: str, alone: bool) -> None:
        self.text, self.alone = text, alone
        self.rows = [(row, column)]


class Outbox:
    """The texts of one bundle that have no vector yet; each is in here once.

    `arrive` is called with the rows that wait for a text, as (row, column), and its fate.
    """

    def __init__(
        self,
        settings: EmbedSettings,
        shared: Shared,
        caller: Caller,
        in_flight: int,
        counts: Counts,
        arrive: Callable[[list[tuple[Any, str]], Fate], None],
    ) -> None:
        self._shared, self._caller, self._counts, self._arrived = shared, caller, counts, arrive
        self._dimension = settings.dimension
        self._batch_size = settings.batch_size
        self._most = 2 * in_flight
        self._done: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        self._workers = Workers(self._work, in_flight, self._done)
        self._waiting: dict[str, Input] = {}
        self._unknown: list[Input] = []  # to be looked up in the vector cache
        self._queue: list[Input] = []  # to be sent
        self._under_way = self._elsewhere = 0
        self._most_tokens = settings.model.request_tokens if settings.model else None
        # In letters: three bytes each at most but for rare scripts, or four to a token.
        self._most_size = min(
            settings.provider.request_bytes // 3, 4 * (self._most_tokens or 1 << 30)
        )
        self._size = 0  # of the queue

    @property
    def busy(self) -> bool:
        """Whether something is under way that `harvest` can wait for."""
        return bool(self._under_way or self._elsewhere)

    @property
    def full(self) -> bool:
        """Whether as many batches stand ready as are being sent."""
        return self._under_way >= self._most

    def want(self, text: str, row: Any, name: str, *, alone: bool = False) -> None:
        """Lets column `name` of a row wait for the vector of a text that the cache lacks.

        A text that goes `alone` takes no other with it if it is refused.
        """
        waiting = self._waiting.get(text)
        if waiting is not None:
            waiting.rows.append((row, name))
            self._counts.add("cache-hits")
            return
        waiting = self._waiting[text] = Input(text, row, name, alone)
        if self._shared.store is not None:
            self._unknown.append(waiting)
            if len(self._unknown) >= LOOKUP:
                self._look_up()
            return
        self._pack(waiting)

    def flush(self) -> None:
        """Sends what is left, full batch or not."""
        self._look_up()
        if self._queue:
            self._send(all_of_it=True)

    def take_up(self) -> None:
        """Gives rows the vectors that have come, without waiting."""
        while not self._done.empty():
            self.harvest()

    def harvest(self) -> None:
        """Waits for a batch, or a text sent by another bundle, and gives rows their vectors."""
        what, result = self._done.get()
        if type(what) is str:
            self._elsewhere -= 1
            if result is not None:
                self._arrive(self._waiting[what], result, sent=False)
            else:  # the other bundle got none: this one tries itself
                self._queue.append(self._waiting[what])
            return
        self._under_way -= 1
        self._count(result)
        if result.error is not None:
            raise result.error
        for one, fate in zip(what, result.fates, strict=True):
            self._arrive(one, fate, sent=True)

    def _arrive(self, one: Input, fate: Fate, *, sent: bool) -> None:
        """Gives all rows that wait for a text its vector, or its fault."""
        self._counts.add("cache-misses" if sent else "cache-hits")
        del self._waiting[one.text]
        self._arrived(one.rows, fate)

    def close(self) -> None:
        """Ends the threads; what was not sent is left."""
        for batch in self._workers.close():
            self._land(batch, None)

    def _pack(self, one: Input) -> None:
        """Adds a text to the batch that is being filled, sends what has no room for more."""
        if one.alone:
            self._hand_over([one])
            return
        size = len(one.text) if self._most_tokens is None else 4 * estimate_tokens(one.text)
        if self._size + size > self._most_size and self._queue:
            self._send(all_of_it=True)
        self._queue.append(one)
        self._size += size
        if len(self._queue) >= self._batch_size:
            self._send()

    def _look_up(self) -> None:
        """Takes from the vector cache what it has; the rest is to be sent."""
        store, some = self._shared.store, self._unknown
        self._unknown = []
        if store is None or not some:
            return
        keys = [self._shared.store_key(one.text) for one in some]
        found = store.get_many(keys, self._dimension)
        for one, key in zip(some, keys, strict=True):
            vector = found.get(key)
            if vector is None:
                self._pack(one)
            else:
                weight = vector.nbytes + sys.getsizeof(cache_key(one.text))
                self._shared.cache.put(cache_key(one.text), vector, weight)
                self._arrive(one, vector, sent=False)

    def _send(self, *, all_of_it: bool = False) -> None:
        """Hands over what is in the queue: full batches, and the rest where `all_of_it`.

        What another bundle of this process is sending just now is waited for instead.
        """
        queue, self._queue, self._size = self._queue, [], 0
        least = 1 if all_of_it else self._batch_size
        texts = [one.text for one in queue]
        elsewhere, landed = self._shared.flights.claim(texts, least, self._done)
        if elsewhere or landed:
            self._elsewhere += len(elsewhere)
            for text, vector in landed.items():
                self._arrive(self._waiting[text], vector, sent=False)
            others = {*elsewhere, *landed}
            queue = [one for one in queue if one.text not in others]
        if len(queue) < least:
            self._queue = queue
            self._size = sum(len(one.text) for one in queue)
            return
        for at in range(0, len(queue), self._batch_size):
            self._hand_over(queue[at : at + self._batch_size])

    def _hand_over(self, batch: list[Input]) -> None:
        self._under_way += 1
        self._workers.put(batch, self._under_way)

    def _work(self, batch: list[Input]) -> Outcome:
        """Calls the endpoint, in a thread; leaves vectors in the caches before telling anyone."""
        outcome = self._caller([one.text for one in batch])
        try:
            self._keep(batch, outcome)
        except Exception as e:  # raised on the bundle's thread, which would else wait for ever
            outcome.error = outcome.error or e
        finally:
            self._land(batch, outcome)
        return outcome

    def _keep(self, batch: list[Input], outcome: Outcome) -> None:
        pairs = zip(batch, outcome.fates, strict=True)
        good = [(one.text, fate) for one, fate in pairs if isinstance(fate, np.ndarray)]
        entries = []
        for text, vector in good:
            key = cache_key(text)
            entries.append((key, vector, vector.nbytes + sys.getsizeof(key)))
        outcome.evicted = self._shared.cache.put_many(entries)
        store = self._shared.store
        if store is not None and good:
            store.put_many((self._shared.store_key(text), vector) for text, vector in good)

    def _land(self, batch: list[Input], outcome: Outcome | None) -> None:
        fates = outcome.fates if outcome is not None else [None] * len(batch)
        for one, fate in zip(batch, fates, strict=True):
            self._shared.flights.land(one.text, fate if isinstance(fate, np.ndarray) else None)

    def _count(self, outcome: Outcome) -> None:
        add = self._counts.add
        add("embed-requests", outcome.requests)
        add("embed-inputs", outcome.inputs)
        if outcome.tokens:
            add("embed-tokens", outcome.tokens)
        if outcome.retries:
            add("embed-retries", outcome.retries)
        if outcome.throttled:
            add("embed-throttled", outcome.throttled)
        if outcome.bisections:
            add("embed-bisections", outcome.bisections)
        for msec in outcome.msec:
            self._counts.observe("embed-msec", msec)
        if outcome.evicted:
            add("cache-evictions", outcome.evicted)
        if outcome.limit is not None:
            self._batch_size = min(self._batch_size, outcome.limit)
