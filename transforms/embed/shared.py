"""What all bundles of a run share in one process: endpoint, pacer, caches, and inputs under way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from queue import SimpleQueue

from vecferry.retry import CLOCK, Clock
from vecferry.steps import StepContext
from vecferry.transforms.embed.cache.memory import LfuCache
from vecferry.transforms.embed.cache.store import VectorStore
from vecferry.transforms.embed.endpoints.base import Content, Endpoint, Image, Vector
from vecferry.transforms.embed.endpoints.choose import open_endpoint
from vecferry.transforms.embed.learned import Learned
from vecferry.transforms.embed.messages import Message, VectorCame
from vecferry.transforms.embed.pace import Pacer
from vecferry.transforms.embed.settings import EmbedSettings

LONG_TEXT = 1024
"""A text longer than this is known to the cache by its digest, so as not to be kept twice."""

KEPT_AS = b"vector, checksum"
"""How a vector cache keeps values: those that were kept otherwise are not found."""

Cache = LfuCache[str | bytes, Vector]


def text_key(text: str) -> str | bytes:
    """What a text is called in a process: a short one is itself, a longer one 16 bytes."""
    return text if len(text) <= LONG_TEXT else _digest(text)


def cache_key(content: Content) -> str | bytes:
    """What an input is called in a process; an image is 20 bytes, never taken for a text."""
    return content.key if isinstance(content, Image) else text_key(content)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def identity_of(settings: EmbedSettings) -> blake2b:
    """What the names of a step's vectors in the vector cache begin with."""
    return blake2b(repr(settings.identity()).encode(), digest_size=20, person=KEPT_AS)


def kept_key(identity: blake2b, text: str) -> bytes:
    """What a text is called in the vector cache."""
    digest = identity.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


class Flights:
    """Inputs that are being sent by some bundle of this process, and who else waits for them.

    Only what is handed to a thread is here, never what waits for a batch to fill. So every input
    that is listed lands, with its vector or without one. Without one its waiters try themselves.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._waiters: dict[Content, list[SimpleQueue[Message]]] = {}

    def claim(
        self, contents: list[Content], least: int, done: SimpleQueue[Message]
    ) -> tuple[list[Content], dict[Content, Vector]]:
        """(inputs under way elsewhere, vectors that landed meanwhile) of `contents`.

        The rest is the caller's to send, where it is `least` inputs or more. What is under way
        elsewhere will come to `done` as a `VectorCame`.
        """
        elsewhere: list[Content] = []
        landed: dict[Content, Vector] = {}
        mine: list[Content] = []
        with self._lock:
            for content in contents:
                if content in self._waiters:
                    elsewhere.append(content)
                    self._waiters[content].append(done)
                    continue
                vector = self._cache.peek(cache_key(content))
                if vector is None:
                    mine.append(content)
                else:
                    landed[content] = vector
            if len(mine) >= least:
                for content in mine:
                    self._waiters[content] = []
        return elsewhere, landed

    def land(self, content: Content, vector: Vector | None) -> None:
        """Ends the flight of an input, after its vector was put into the cache."""
        with self._lock:
            waiters = self._waiters.pop(content, ())
        for done in waiters:
            done.put(VectorCame(content, vector))


@dataclass(slots=True)
class Shared:
    """One for each run, step settings and process; closed by whoever ends the run."""

    endpoint: Endpoint
    query_endpoint: Endpoint
    pacer: Pacer
    cache: Cache
    flights: Flights
    store: VectorStore | None
    dimension: int
    identity: blake2b
    learned: Learned = field(default_factory=Learned)

    def store_key(self, content: Content) -> bytes:
        """What an input is called in the vector cache; no text is called as an image is."""
        if isinstance(content, Image):
            known = self.identity.digest() + content.key
            return blake2b(known, digest_size=20, person=b"image of a model").digest()
        return kept_key(self.identity, content)

    def keep(self, content: Content, vector: Vector) -> None:
        """Puts the vector of an input into memory."""
        self.keep_many([(cache_key(content), vector)])

    def keep_many(self, items: Iterable[tuple[str | bytes, Vector]]) -> int:
        """Puts vectors into memory under their `cache_key`; gives how many others had to go."""
        size = sys.getsizeof
        return self.cache.put_many([(key, v, v.nbytes + size(key)) for key, v in items])

    def image_vector(self, key: bytes) -> Vector | None:
        """The vector of the image with this key, from memory or the vector cache."""
        vector = self.cache.get(key)
        if vector is None and self.store is not None:
            image = Image(key)
            name = self.store_key(image)
            vector = self.store.get_many([name], self.dimension).get(name)
            if vector is not None:
                self.keep(image, vector)
        return vector

    def check_store(self) -> None:
        """Opens the vector cache, where there is one, and leaves it as it is; raises JobError."""
        if self.store is not None:
            self.store.check()

    def close(self) -> None:
        """Closes connections and the vector cache; forgets the vectors in memory."""
        try:
            self.endpoint.close()
        finally:
            self.query_endpoint.close()
            self.cache.close()
            if self.store is not None:
                self.store.close()


def shared_of(settings: EmbedSettings, context: StepContext, clock: Clock = CLOCK) -> Shared:
    """What a step shares with its other bundles in this process; made on first use."""
    spec, query_spec = settings.endpoint_spec, settings.query_spec
    identity = settings.identity()
    rpm, tpm = settings.requests_per_minute, settings.tokens_per_minute
    kept = settings.vector_cache

    def make() -> Shared:
        cache: Cache = LfuCache(settings.cache_bytes)
        endpoint = open_endpoint(spec, context.shared.concurrent or context.in_flight())
        return Shared(
            endpoint,
            endpoint if query_spec == spec else open_endpoint(query_spec, 1),
            Pacer(rpm and rpm / 60, tpm and tpm / 60, clock=clock.now, share=context.share),
            cache,
            Flights(cache),
            VectorStore(kept) if kept else None,
            settings.dimension,
            identity_of(settings),
        )

    key = ("embed", identity, spec, query_spec, kept, settings.cache_bytes, rpm, tpm)
    return context.scope.get(key, make)
