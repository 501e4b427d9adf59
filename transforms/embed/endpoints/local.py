"""Vectors made in this process by wordllama: offline, static token embeddings, 256 dimensions."""

from __future__ import annotations

import logging
import os
from typing import Any, Self

import numpy as np

from vecferry.process import PROCESS
from vecferry.transforms.embed.endpoints.base import Answer, Content, PoisonError, Vector
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


class LocalEndpoint:
    """wordllama's vectors, bit for bit, as ``WordLlama.embed`` gives them: not normalised.

    Its own call pads all texts of a batch to the longest, which costs two thirds of its time. Here
    the token vectors of each text are averaged by themselves.
    """

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        self._tokenizer, table = PROCESS.get(("embed", "wordllama"), _load)
        self._table = np.ascontiguousarray(table[:, : spec.dimension])

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of `inputs`; a text of which the model knows nothing gets zeros."""
        try:
            encoded = self._tokenizer.encode_batch_fast(inputs, add_special_tokens=False)
        except (TypeError, UnicodeError) as e:
            raise PoisonError(f"the text is not valid Unicode: {e}", "bad-text", sent=False) from e
        take, add = self._table.take, np.add.reduce
        vectors: list[Vector] = []
        tokens = 0
        for one in encoded:
            ids = one.ids
            tokens += len(ids)
            vector = add(take(ids, 0, None, "clip"), 0)
            vector /= max(len(ids), 1)
            vector.flags.writeable = False
            vectors.append(vector)
        return Answer(vectors, tokens)

    def for_queries(self) -> Self:
        """The endpoint itself: texts to search by are embedded as all texts are."""
        return self

    def reach(self) -> None:
        """There is nothing to reach."""

    def settle(self) -> None:
        """No server sends anything."""

    def close(self) -> None:
        """There is nothing to close: the model stays for the next run."""


def _load() -> tuple[Any, Any]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        import wordllama
        from tokenizers import Tokenizer
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(
            "modelProvider local needs wordllama: pip install 'vecferry[local]'"
        ) from e
    # A tokenizer's threads gain nothing on batches of this size. They leave 170 bytes a row behind
    # in malloc's arenas, which is 140 MB after a million rows.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Its import sets up the root logger, which is the program's own business.
    root.handlers[:] = handlers
    root.setLevel(level)
    # The wheel has its tokenizer where only this cache folder leads to it; else it is downloaded.
    folder = os.path.dirname(wordllama.__file__)
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    tokenizer = Tokenizer.from_str(model.tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Its cache of texts grows by 10 MB in 50,000 texts and more, and serves only repeated ones,
    # which never come here twice.
    resize = getattr(tokenizer.model, "_resize_cache", None)
    if resize is not None:
        resize(0)
    return tokenizer, model.embedding
