"""Counts the texts and images that an embedding step would send, for an estimate.

Apart from `vecferry.transforms.embed.engine` because nothing here calls an endpoint.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter

from vecferry.errors import TerminalError
from vecferry.rows import DELETE, Change, Reject
from vecferry.transforms.embed.cache.store import Held
from vecferry.transforms.embed.long import estimate_tokens, inputs_of
from vecferry.transforms.embed.settings import EmbedSettings
from vecferry.transforms.embed.shared import identity_of, kept_key
from vecferry.transforms.embed.text import input_maker

ASKED_AT_ONCE = 256
"""Texts for which the vector cache is asked together."""


class InputCounter:
    """Stands in for an embedding step; an `Estimator`.

    Images are told apart by what the rows say, for none is loaded. Texts whose vectors the vector
    cache holds cost nothing.
    """

    def __init__(self, settings: EmbedSettings) -> None:
        self._makers = [input_maker(c, settings) for c in settings.embedding_columns]
        self._batch_size, self._images_at_once = settings.batch_size, settings.images_at_once
        self._may_be_empty = settings.skip_empty_value
        limit = settings.most_tokens
        self._inputs_of = functools.partial(inputs_of, limit=limit, over=settings.over_limit)
        self._price = settings.price
        self._held = Held(settings.vector_cache) if settings.vector_cache is not None else None
        self._identity = identity_of(settings)
        self._counts, self._seen, self._images = Counter[str](), set[bytes](), set[bytes]()
        self._met = set[bytes]()
        self._asked: list[tuple[str, bool]] = []
        self._sent, self._alone = 0, 0
        self._vectors = dict.fromkeys(c.embedding_column_name for c in settings.embedding_columns)

    def process(self, change: Change) -> Change | Reject | None:
        """The row with None in place of its vectors; a delete as it is."""
        if change.kind == DELETE:
            return change
        try:
            inputs = [make(change) for make in self._makers]
        except TerminalError as e:
            return Reject("", "", e.reason, str(e), row=change)
        if not (all(inputs) or self._may_be_empty):
            return Reject("", "", "empty-text", "the text is empty", row=change)
        for one in filter(None, inputs):
            if isinstance(one, str):
                self._count(one)
            else:
                self._counts["images"] += 1
                self._images.add(_digest(one.value))
        return change.with_columns(self._vectors)

    def _count(self, text: str) -> None:
        self._counts["texts"] += 1
        digest = _digest(text)
        if digest in self._seen:
            return
        self._seen.add(digest)
        inputs, alone = self._inputs_of(text)
        for one in inputs:
            digest = _digest(one)
            if digest not in self._met:
                self._met.add(digest)
                self._asked.append((one, alone))
        if len(self._asked) >= ASKED_AT_ONCE or self._held is None:
            self._send()

    def _send(self) -> None:
        """Counts the inputs that wait, but for those that the vector cache holds."""
        asked, self._asked = self._asked, []
        keys = [kept_key(self._identity, text) for text, _ in asked] if self._held else []
        held = self._held.of(keys) if self._held and keys else set()
        for at, (text, alone) in enumerate(asked):
            if held and keys[at] in held:
                self._counts["cached_texts"] += 1
                continue
            self._sent += 1
            self._alone += alone
            self._counts["tokens"] += estimate_tokens(text)

    def estimate(self) -> dict[str, int]:
        """Texts, images, tokens, requests and nano; tokens are estimated, the rest is counted."""
        self._send()
        if self._held is not None:
            self._held.close()
        packed, images = self._sent - self._alone, len(self._images)
        requests = self._alone + math.ceil(packed / self._batch_size)
        cost = 0 if self._price is None else self._price.nano(self._counts["tokens"], images)
        return {
            **self._counts,
            "distinct_texts": len(self._seen),
            "distinct_images": images,
            "requests": requests + math.ceil(images / self._images_at_once),
            "nano": cost,
        }


def _digest(value: str | bytes) -> bytes:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return hashlib.blake2b(data, digest_size=16).digest()
