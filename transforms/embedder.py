"""The embedding engine: rows in, rows with vectors out, every text paid for once.

Texts are packed over rows into full batches and carried to the endpoint by several threads; what
comes back is taken up on the bundle's own thread, which also counts. While all requests are under
way as many batches again stand ready, so that the endpoint is never kept waiting by a slow sink;
then `process` waits, which holds the reader back.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from queue import SimpleQueue
from typing import Any

from vecferry.errors import JobError, TerminalError, TransientError
from vecferry.process import once
from vecferry.rows import DELETE, INSERT, Change
from vecferry.steps import Counts, Emitted, Stamp, StepContext
from vecferry.transforms.embed_caller import Caller, Fate, Outcome
from vecferry.transforms.embed_pace import Pacer
from vecferry.transforms.embed_settings import EmbedSettings
from vecferry.transforms.embed_text import text_maker
from vecferry.transforms.embed_workers import Workers
from vecferry.transforms.endpoints.base import Endpoint, Vector
from vecferry.transforms.endpoints.choose import open_endpoint
from vecferry.transforms.lfu import LfuCache

BUNDLE_SECONDS = 300.0
"""What a bundle of an endless job waits for an endpoint before it is replayed."""
CHECK_SECONDS = 10.0
LONG_TEXT = 1024
"""A text longer than this is known to the cache by its digest, so as not to be kept twice."""
LEAST_WINDOW = 4096
"""Plain rows that may wait at once, where the batches under way allow no more anyway."""


@dataclass(slots=True)
class _Shared:
    """What all bundles of a run share in one process."""

    endpoint: Endpoint
    pacer: Pacer
    cache: LfuCache[str | bytes, Vector]

    def close(self) -> None:
        self.endpoint.close()
        self.cache.close()


class _Row:
    """A row inside the engine; `item` is what will leave for it, once that is known."""

    __slots__ = ("change", "item", "missing", "stamp", "vectors")

    def __init__(self, change: Change, stamp: Stamp) -> None:
        self.change, self.stamp = change, stamp
        self.item: Any = None
        self.vectors: dict[str, Vector | None] = {}
        self.missing = 0


class _Input:
    """A distinct text and the rows, with their vector columns, that wait for its vector."""

    __slots__ = ("rows", "text")

    def __init__(self, text: str, row: _Row, column: str) -> None:
        self.text = text
        self.rows = [(row, column)]


class Embedder:
    """Adds vector columns to rows; an `Operator`.

    Plain rows leave as their vectors come. From the first change on (a row kind other than ``+I``,
    or a version) rows leave in the order in which they arrived. A delete passes as it is.
    """

    def __init__(self, settings: EmbedSettings, connection: None, context: StepContext) -> None:
        self.counts = Counts()
        self._settings, self._context = settings, context
        self._columns = [
            (c.embedding_column_name, text_maker(c, settings)) for c in settings.embedding_columns
        ]
        self._shared = _shared(settings, context)
        self._closed = threading.Event()
        self._done: SimpleQueue[tuple[list[_Input], Outcome]] = SimpleQueue()
        local = settings.model_provider == "local"
        in_flight = 1 if local else context.in_flight()
        self._workers = Workers(self._work, in_flight, self._done)
        self._caller = self._make_caller(_deadline(settings, context))
        self._batch_size = settings.batch_size
        self._most = 2 * in_flight
        self._window = 4 * in_flight * settings.batch_size
        self._waiting: dict[str, _Input] = {}
        self._queue: list[_Input] = []
        self._order: deque[_Row] = deque()
        self._ready: list[Emitted] = []
        self._ordered = False
        self._under_way = self._inside = 0

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a row; gives the rows that are ready. Waits while the endpoint is behind."""
        row = _Row(change, stamp)
        if self._ordered or change.kind != INSERT or change.version is not None:
            self._keep_order(row)
        self._inside += 1
        if change.kind == DELETE:
            self._settle(row, change)
        else:
            self._take(row)
        if self._under_way:
            while not self._done.empty():
                self._harvest()
        if self._under_way >= self._most or self._inside >= self._window:
            self._make_room()
        ready, self._ready = self._ready, []
        return ready

    def finish(self) -> list[Emitted]:
        """Sends what is left and waits for everything; gives the rows still inside."""
        self._drain()
        ready, self._ready = self._ready, []
        self._ordered = False
        return ready

    def close(self) -> None:
        """Ends this bundle's threads; connections and cache stay for the next."""
        self._closed.set()
        self._workers.close()

    def check(self) -> None:
        """Makes one real call with a short text; raises JobError unless it gives a good vector."""
        self.embed_query("vecferry")

    def reach(self) -> None:
        """Connects to the endpoint and leaves; raises JobError where that fails. Costs nothing."""
        try:
            self._shared.endpoint.reach()
        except (TransientError, TerminalError) as e:
            raise JobError(
                f"step {self._context.step!r}: {e}: check endpoint, network and proxy"
            ) from e

    def embed_query(self, text: str) -> Vector:
        """The vector of one text, float32 of shape (dimension,); raises JobError."""
        outcome = self._make_caller(CHECK_SECONDS)([text])
        fate = outcome.error or outcome.fates[0]
        if isinstance(fate, Exception):
            where = f"step {self._context.step!r}: "
            raise JobError(f"{where}{str(fate).removeprefix(where)}") from fate
        return fate  # type: ignore[no-any-return]

    def _make_caller(self, deadline: float | None) -> Caller:
        return Caller(
            self._shared.endpoint,
            self._shared.pacer,
            what=f"step {self._context.step!r}: embedding with {self._settings.shown_model}",
            deadline=deadline,
            closed=self._closed,
        )

    def _work(self, batch: list[_Input]) -> Outcome:
        return self._caller([one.text for one in batch])

    def _keep_order(self, row: _Row) -> None:
        if not self._ordered:
            self._drain()  # plain rows that came before may not be overtaken
            self._ordered = True
        self._order.append(row)

    def _take(self, row: _Row) -> None:
        """Finds the vectors of a row, or lets it wait for them."""
        try:
            texts = [(name, make(row.change)) for name, make in self._columns]
        except TerminalError as e:
            self._settle(row, self._context.reject(e.reason, str(e), row=row.change))
            return
        for name, text in texts:
            if not text:
                if not self._settings.skip_empty_value:
                    self._settle(row, self._empty(row, name))
                    return
                row.vectors[name] = None
        for name, text in texts:
            if text:
                self._want(row, name, text)
        if not row.missing:
            self._settle(row, row.change.having(row.vectors))

    def _empty(self, row: _Row, name: str) -> Any:
        return self._context.reject(
            "empty-text",
            f"there is no text for {name!r}, every source column is null or empty: "
            "skipEmptyValue lets such rows pass without a vector",
            row=row.change,
        )

    def _want(self, row: _Row, name: str, text: str) -> None:
        waiting = self._waiting.get(text)
        if waiting is not None:
            row.missing += 1
            waiting.rows.append((row, name))
            self.counts.add("cache-hits")
            return
        vector = self._shared.cache.get(text if len(text) <= LONG_TEXT else _digest(text))
        if vector is not None:
            row.vectors[name] = vector
            self.counts.add("cache-hits")
            return
        row.missing += 1
        self.counts.add("cache-misses")
        waiting = self._waiting[text] = _Input(text, row, name)
        self._queue.append(waiting)
        if len(self._queue) >= self._batch_size:
            self._send()

    def _send(self) -> None:
        batch, self._queue = self._queue, []
        self._under_way += 1
        self._workers.put(batch, self._under_way)

    def _make_room(self) -> None:
        limit = self._window if self._ordered else max(self._window, LEAST_WINDOW)
        while self._under_way >= self._most or self._inside >= limit:
            if self._under_way:
                self._harvest()
            else:
                self._send()  # all that is inside waits for texts of an unfilled batch

    def _drain(self) -> None:
        if self._queue:
            self._send()
        while self._under_way:
            self._harvest()

    def _harvest(self) -> None:
        """Waits for a batch and gives its rows their vectors."""
        batch, outcome = self._done.get()
        self._under_way -= 1
        self._count(outcome)
        if outcome.error is not None:
            raise outcome.error
        kept = []
        for one, fate in zip(batch, outcome.fates, strict=True):
            text = one.text
            del self._waiting[text]
            if not isinstance(fate, TerminalError):
                key = text if len(text) <= LONG_TEXT else _digest(text)
                kept.append((key, fate, fate.nbytes + sys.getsizeof(key)))
            for row, name in one.rows:
                self._give(row, name, fate)
        evicted = self._shared.cache.put_many(kept)
        if evicted:
            self.counts.add("cache-evictions", evicted)

    def _give(self, row: _Row, name: str, fate: Fate) -> None:
        if row.item is not None:
            return
        if isinstance(fate, TerminalError):
            self._settle(row, self._context.reject(fate.reason, str(fate), row=row.change))
            return
        row.vectors[name] = fate
        row.missing -= 1
        if not row.missing:
            self._settle(row, row.change.having(row.vectors))

    def _settle(self, row: _Row, item: Any) -> None:
        """Lets `item` leave for a row, in its turn where order is kept."""
        row.item = item
        if not self._ordered:
            self._inside -= 1
            self._ready.append((item, row.stamp))
            return
        order = self._order
        while order and order[0].item is not None:
            first = order.popleft()
            self._inside -= 1
            self._ready.append((first.item, first.stamp))

    def _count(self, outcome: Outcome) -> None:
        add = self.counts.add
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
            self.counts.observe("embed-msec", msec)
        if outcome.limit is not None:
            self._batch_size = min(self._batch_size, outcome.limit)


def _shared(settings: EmbedSettings, context: StepContext) -> _Shared:
    """The endpoint, cache and pacer of a run in this process, for equal settings the same."""

    def make() -> _Shared:
        share = 60 * context.parallelism
        rpm, tpm = settings.requests_per_minute, settings.tokens_per_minute
        return _Shared(
            open_endpoint(settings, context.concurrent or context.in_flight()),
            Pacer(rpm and rpm / share, tpm and tpm / share),
            LfuCache(settings.cache_bytes),
        )

    how = (settings.api_key, settings.cache_bytes, settings.timeout_seconds)
    pace = (settings.requests_per_minute, settings.tokens_per_minute)
    return once(("embed", context.run, settings.identity(), how, pace), make)


def _deadline(settings: EmbedSettings, context: StepContext) -> float:
    if settings.retry_deadline_seconds is not None:
        return settings.retry_deadline_seconds
    return BUNDLE_SECONDS if context.retry_deadline is None else context.retry_deadline


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
