"""Inputs on their way to the endpoint: looked up, packed, sent by threads, taken up again.

An input is a text or an image; a batch holds inputs of one kind, and is full by the limits of that
kind. Everything but `_work`, `_keep`, `_land` and `_read` runs on the bundle's thread.

Apart from `engine` because that knows rows, and this module knows inputs only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from vecferry.errors import GivenUp
from vecferry.steps import Counts
from vecferry.threads import DaemonPool, raisable, share_one_arena
from vecferry.transforms.embed.caller import Caller, Fate, Outcome
from vecferry.transforms.embed.endpoints.base import Content, Image, Vector
from vecferry.transforms.embed.learned import Bounds
from vecferry.transforms.embed.long import estimate_tokens
from vecferry.transforms.embed.messages import BatchBroke, BatchDone, LookedUp, Message, VectorCame
from vecferry.transforms.embed.rows import Waiter, Waiting
from vecferry.transforms.embed.settings import EmbedSettings
from vecferry.transforms.embed.shared import Shared

REQUEST_HEAD = 4096
"""Bytes of a request that are kept for everything but images."""
IMAGE_HEAD = 64
"""Bytes that an image takes in a request beyond its base64."""
LOOKUP = 256
"""Inputs that are looked up in the vector cache at once."""
LOOKUPS = 2
"""So many lots of them wait for the vector cache before the bundle's thread does: one is read while
the next is gathered."""


class Input:
    """A distinct input and the rows, with their vector columns, that wait for its vector.

    `key` is what the input is called in the process; see `cache_key`.
    """

    __slots__ = ("alone", "content", "key", "rows")

    def __init__(
        self, content: Content, row: Waiter, column: str, key: str | bytes, alone: bool
    ) -> None:
        self.content, self.key, self.alone = content, key, alone
        self.rows: Waiting = [(row, column)]


class Queue:
    """Inputs of one kind that are to be sent; `most` of them make a batch, or `most_size`.

    The `bounds` that the endpoint shows make both smaller.
    """

    __slots__ = ("_most", "_most_size", "bounds", "inputs", "size")

    def __init__(self, most: int, most_size: int, bounds: Bounds) -> None:
        self.inputs: list[Input] = []
        self._most, self._most_size, self.size, self.bounds = most, most_size, 0, bounds

    @property
    def most(self) -> int:
        """How many inputs make a batch."""
        known = self.bounds.most
        return self._most if known is None else min(self._most, known)

    @property
    def most_size(self) -> int:
        """What a batch has room for."""
        known = self.bounds.weight
        return self._most_size if known is None else min(self._most_size, known)


def size_of(content: Content, most_tokens: int | None) -> int:
    """What an input takes of a batch: an image bytes; a text letters, or four times its tokens."""
    if isinstance(content, Image):
        return -(-len(content.data) // 3) * 4 + IMAGE_HEAD
    if most_tokens is not None:
        return 4 * estimate_tokens(content)
    return len(content)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much goes into one batch: texts, images, bytes, and tokens (None without a bound)."""

    texts: int
    images: int
    bytes: int
    tokens: int | None

    @classmethod
    def of(cls, settings: EmbedSettings) -> Limits:
        """The limits of a step's model and provider."""
        model = settings.model
        return cls(
            texts=settings.batch_size,
            images=settings.images_at_once,
            bytes=settings.endpoint_spec.request_bytes,
            tokens=model.request_tokens if model else None,
        )


class Outbox:
    """The inputs of one bundle that have no vector yet; each is in here once.

    Messages come to `done`; `settle` and `landed` say which rows get what by them. `held` is the
    number of bytes of the images in here.
    """

    def __init__(
        self,
        limits: Limits,
        shared: Shared,
        caller: Caller,
        in_flight: int,
        counts: Counts,
        done: SimpleQueue[Message],
    ) -> None:
        share_one_arena()
        self._shared, self._caller, self._counts, self._done = shared, caller, counts, done
        self._most = 2 * in_flight
        self.held = 0
        self._pool = DaemonPool(self._work, in_flight, "vecferry-embed")
        self._reader = DaemonPool(self._read, 1, "vecferry-lookup")
        self._waiting: dict[Content, Input] = {}
        self._unknown: list[Input] = []  # to be looked up in the vector cache
        self._under_way = self._elsewhere = self._looking = 0
        self._most_tokens = limits.tokens
        # In letters: three bytes each at most but for rare scripts, or four to a token.
        letters = min(limits.bytes // 3, 4 * (limits.tokens or 1 << 30))
        self._texts = Queue(limits.texts, letters, shared.learned.texts)
        self._images = Queue(limits.images, limits.bytes - REQUEST_HEAD, shared.learned.images)

    @property
    def busy(self) -> bool:
        """Whether something is under way of which a message will come."""
        return bool(self._under_way or self._elsewhere or self._looking)

    @property
    def full(self) -> bool:
        """Whether as many batches stand ready as are being sent, or the vector cache is behind."""
        return self._under_way >= self._most or self._looking >= LOOKUPS

    def want(
        self,
        content: Content,
        row: Waiter,
        name: str,
        key: str | bytes,
        *,
        alone: bool = False,
        looked_up: bool = False,
    ) -> None:
        """Lets column `name` of a row wait for the vector of an input that the cache lacks.

        `key` is what the input is called there. One that goes `alone` takes no other with it if it
        is refused; one that is `looked_up` is not in the vector cache either.
        """
        waiting = self._waiting.get(content)
        if waiting is not None:
            waiting.rows.append((row, name))
            self._counts.add("cache-hits")
            return
        waiting = self._waiting[content] = Input(content, row, name, key, alone)
        if type(content) is Image:
            self.held += len(content.data)
        if self._shared.store is not None and not looked_up:
            self._unknown.append(waiting)
            if len(self._unknown) >= LOOKUP:
                self._look_up()
            return
        self._pack(waiting)

    def join(self, content: Content, row: Waiter, name: str) -> bool:
        """Lets a row wait with others for an input that is in here already; False where it isn't.

        An `Image` may be one of its key alone.
        """
        waiting = self._waiting.get(content)
        if waiting is None:
            return False
        waiting.rows.append((row, name))
        self._counts.add("cache-hits")
        return True

    def flush(self) -> None:
        """Sends what is left, full batch or not, once it is known what the vector cache has."""
        self._look_up()
        if self._looking:
            return
        for queue in (self._texts, self._images):
            if queue.inputs:
                self._send(queue, all_of_it=True)

    def settle(self, batch: list[Input], outcome: Outcome) -> Iterator[tuple[Input, Fate]]:
        """The inputs of a batch that has come back, with their fates; raises what failed it."""
        self._under_way -= 1
        self._count(outcome)
        if outcome.error is not None:
            raise outcome.error
        for one, fate in zip(batch, outcome.fates, strict=True):
            if not isinstance(fate, GivenUp):
                self._counts.add("cache-misses")
            self._leave(one)
            yield one, fate

    def landed(self, content: Content, vector: Vector | None) -> Waiting:
        """The rows that wait for a vector which came from elsewhere.

        If `vector` is None, another bundle failed to get it. Then this bundle sends the input, and
        its rows go on waiting.
        """
        self._elsewhere -= 1
        one = self._waiting[content]
        if vector is None:
            self._pack(one)
            return []
        self._counts.add("cache-hits")
        return self._leave(one)

    def looked_up(
        self, inputs: list[Input], vectors: list[Vector | None]
    ) -> Iterator[tuple[Waiting, Vector]]:
        """The rows of inputs that the vector cache has, with their vectors; the rest is sent."""
        self._looking -= 1
        hits = 0
        for one, vector in zip(inputs, vectors, strict=True):
            if vector is None:
                self._pack(one)
            else:
                hits += 1
                yield self._leave(one), vector
        if hits:
            self._counts.add("cache-hits", hits)

    def abandon(self) -> list[Waiting]:
        """Forgets all that is in here; gives the rows that wait for it.

        Messages of it may still come, and mean nothing.
        """
        for batch in self._pool.drop():
            self._land(batch, None)
        rows = [one.rows for one in self._waiting.values()]
        self._waiting, self._unknown = {}, []
        for queue in (self._texts, self._images):
            queue.inputs, queue.size = [], 0
        self._under_way = self._elsewhere = self._looking = self.held = 0
        return rows

    def _leave(self, one: Input) -> Waiting:
        content = one.content
        del self._waiting[content]
        if isinstance(content, Image):
            self.held -= len(content.data)
        return one.rows

    def close(self) -> None:
        """Ends the threads; what was not sent is left."""
        for batch in self._pool.drop():
            self._land(batch, None)
        self._pool.close()
        self._reader.drop()
        self._reader.close()

    def _pack(self, one: Input) -> None:
        """Adds an input to the batch that is being filled, sends what has no room for more."""
        if one.alone:
            alone = Queue(1, 0, self._texts.bounds)
            alone.inputs.append(one)
            self._send(alone)
            return
        content = one.content
        if type(content) is str and self._most_tokens is None:
            queue, size = self._texts, len(content)
        else:
            queue = self._images if isinstance(content, Image) else self._texts
            size = size_of(content, self._most_tokens)
        if queue.size + size > queue.most_size and queue.inputs:
            self._send(queue, all_of_it=True)
        queue.inputs.append(one)
        queue.size += size
        if len(queue.inputs) >= queue.most:
            self._send(queue)

    def _look_up(self) -> None:
        """Lets a thread ask the vector cache; what it lacks is sent as `looked_up` is told."""
        if self._unknown:
            some, self._unknown = self._unknown, []
            self._looking += 1
            self._reader.put(some)

    def _read(self, some: list[Input]) -> None:
        """Takes from the vector cache what it has, in a thread."""
        message: Message
        try:
            message = LookedUp(some, self._known(some))
        except BaseException as e:
            message = BatchBroke(raisable(e))
        self._done.put(message)

    def _known(self, some: list[Input]) -> list[Vector | None]:
        store, name = self._shared.store, self._shared.store_key
        if store is None:
            return [None] * len(some)
        keys = [name(one.content) for one in some]
        found = store.get_many(keys, self._shared.dimension)
        vectors = list(map(found.get, keys))
        pairs = zip(some, vectors, strict=True)
        self._shared.keep_many([(one.key, v) for one, v in pairs if v is not None])
        return vectors

    def _post(self, content: Content, vector: Vector) -> None:
        """Posts a vector to this bundle itself, which takes it as one that comes from another."""
        self._elsewhere += 1
        self._done.put(VectorCame(content, vector))

    def _send(self, queue: Queue, *, all_of_it: bool = False) -> None:
        """Hands over what is in a queue: full batches, and the rest where `all_of_it`.

        What another bundle of this process is sending just now is waited for instead.
        """
        inputs, queue.inputs, queue.size = queue.inputs, [], 0
        most = queue.most  # it may become smaller at any time
        least = 1 if all_of_it else most
        contents = [one.content for one in inputs]
        elsewhere, landed = self._shared.flights.claim(contents, least, self._done)
        if elsewhere or landed:
            self._elsewhere += len(elsewhere)
            for content, vector in landed.items():
                self._post(content, vector)
            others = {*elsewhere, *landed}
            inputs = [one for one in inputs if one.content not in others]
        if len(inputs) < least:
            queue.inputs = inputs
            queue.size = sum(size_of(one.content, self._most_tokens) for one in inputs)
            return
        for at in range(0, len(inputs), most):
            self._under_way += 1
            try:
                self._pool.put(inputs[at : at + most])
            except BaseException:  # the process may not start a thread; others may wait for these
                self._land(inputs[at:], None)
                raise

    def _work(self, batch: list[Input]) -> None:
        """Calls the endpoint, in a thread; leaves vectors in the caches before telling anyone."""
        outcome: Outcome | None = None
        message: Message
        try:
            outcome = self._caller([one.content for one in batch])
            self._keep(batch, outcome)
            message = BatchDone(batch, outcome)
        except BaseException as e:
            message = BatchBroke(raisable(e))
        self._land(batch, outcome)  # whatever happened: others may wait for these
        self._done.put(message)

    def _keep(self, batch: list[Input], outcome: Outcome) -> None:
        pairs = zip(batch, outcome.fates, strict=True)
        good = [(one, fate) for one, fate in pairs if isinstance(fate, np.ndarray)]
        outcome.evicted = self._shared.keep_many((one.key, vector) for one, vector in good)
        store = self._shared.store
        if store is not None and good:
            name = self._shared.store_key
            store.put_later((name(one.content), vector) for one, vector in good)

    def _land(self, batch: list[Input], outcome: Outcome | None) -> None:
        fates = outcome.fates if outcome is not None else [None] * len(batch)
        for one, fate in zip(batch, fates, strict=True):
            self._shared.flights.land(one.content, fate if isinstance(fate, np.ndarray) else None)

    def _count(self, outcome: Outcome) -> None:
        add = self._counts.add
        add("embed-requests", outcome.requests)
        add("embed-inputs", outcome.inputs)
        if outcome.tokens:
            add("embed-tokens", outcome.tokens)
        if outcome.nano:
            add("embed-nano", outcome.nano)
        if outcome.retries:
            add("embed-retries", outcome.retries)
        if outcome.throttled:
            add("embed-throttled", outcome.throttled)
        if outcome.bisections:
            add("embed-bisections", outcome.bisections)
        self._counts.observe("embed-in-flight", outcome.under_way)
        for msec in outcome.msec:
            self._counts.observe("embed-msec", msec)
        if outcome.evicted:
            add("cache-evictions", outcome.evicted)
        store = self._shared.store  # what is damaged there is sent, and so counted here
        if store is not None and (damaged := store.take_damaged()):
            add("cache-damaged", damaged)
