"""Vectors made in this process by wordllama: offline, static token embeddings, 256 dimensions."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vecferry.process import PROCESS
from vecferry.transforms.embed.endpoints.base import Answer, Content, PoisonError, Vector
from vecferry.transforms.embed.endpoints.spec import EndpointSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class LocalEndpoint:
    """wordllama's vectors, bit for bit, as ``WordLlama.embed`` gives them: not normalised.

    Its own call pads all texts of a batch to the longest, which costs two thirds of its time. Here
    the token vectors of each text are averaged by themselves, and the tokenizer is asked for each
    word once.
    """

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        tokenizer, table = PROCESS.get(("embed", "wordllama"), _load)
        self._tokens: Tokens = PROCESS.get(
            ("embed", "wordllama", "tokens"), lambda: Tokens(tokenizer)
        )
        self._table = np.ascontiguousarray(table[:, : spec.dimension])

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of `inputs`; a text of which the model knows nothing gets zeros."""
        try:
            encoded = self._tokens.of(inputs)  # type: ignore[arg-type]
        except (TypeError, UnicodeError) as e:
            raise PoisonError(f"the text is not valid Unicode: {e}", "bad-text", sent=False) from e
        take, add = self._table.take, np.add.reduce
        vectors: list[Vector] = []
        tokens = 0
        for ids in encoded:
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


class _Known(dict[str, list[int]]):
    """The tokens of words, those that came lately, and `before` them."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, list[int]] = {}

    def __missing__(self, word: str) -> list[int]:
        ids = self[word] = self.before[word]
        return ids

    def age(self) -> None:
        """Forgets what has not come since the last call."""
        self.before = {**self}
        self.clear()
        self[""] = self.before[""]


class Tokens:
    """The tokens of texts, as the tokenizer gives them, which is asked for each word once.

    Its model takes a text for one long word. It never joins letters with a space behind them, so
    the tokens of a text are those of its words. Where that does not hold, each text is asked for.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        told = json.loads(tokenizer.to_str())
        self._by_words = _goes_by_words(told)
        marks = [_SPACE, *(token["content"] for token in told["added_tokens"])]
        self._whole = re.compile("|".join(map(re.escape, marks)))
        self._known = _Known()
        self._lock = threading.Lock()
        self._known[""] = [told["model"]["vocab"].get(_SPACE, 0)]

    def of(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; raises TypeError or UnicodeError for what is not a text."""
        if not self._by_words:
            return self._asked(texts)
        cut = [None if self._whole.search(text) else _words(text) for text in texts]
        with self._lock:
            found = [None if words is None else self._of_words(words) for words in cut]
            if None in found:
                self._add(cut, found)
        whole = [i for i, words in enumerate(cut) if words is None]
        for i, ids in zip(whole, self._asked([texts[i] for i in whole]), strict=True):
            found[i] = ids
        return [ids or [] for ids in found]

    def _of_words(self, words: list[str]) -> list[int] | None:
        """The tokens of words; None if one of them is not known."""
        try:
            return list(itertools.chain.from_iterable(map(self._known.__getitem__, words)))
        except KeyError:
            return None

    def _add(self, cut: list[list[str] | None], found: list[list[int] | None]) -> None:
        """Fills in what was not found, and keeps the words that were asked for."""
        known = self._known
        unknown = [words for words, ids in zip(cut, found, strict=True) if words and ids is None]
        wanted = set(itertools.chain.from_iterable(unknown))
        missing = [word for word in wanted if word not in known and word not in known.before]
        known.update(zip(missing, self._asked(missing), strict=True))
        for i, words in enumerate(cut):
            if words and found[i] is None:
                found[i] = self._of_words(words)
        for word in missing:
            if len(word) > LONG_WORD or len(known[word]) > MANY_TOKENS:
                del known[word]
        if len(known) > MOST_WORDS // 2:
            known.age()

    def _asked(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [one.ids for one in encoded]


MOST_WORDS, LONG_WORD, MANY_TOKENS = 1 << 16, 40, 12
"""About so many words are kept, which takes some 15 MB; longer ones are not, as few come again.

Neither are those of many tokens, such as a title in Chinese, which has no spaces. They would take
ten times as much.
"""
_SPACE = "▁"
"""What a space is to the tokenizer, which also puts one before each text."""
_RUN = re.compile(" +[^ ]*")


def _words(text: str) -> list[str]:
    """The words of a text with the spaces before each, but for the last of these spaces.

    The tokenizer puts that one before whatever it is asked for. "" stands for a space alone.
    """
    words = text.split(" ")
    if "" not in words:
        return words
    return [word[1:] for word in _RUN.findall(f" {text}")] if text else []


def _goes_by_words(told: dict[str, Any]) -> bool:
    """Whether the tokens of a text are those of its words, as a tokenizer tells of itself."""
    model = told["model"]
    merged = ("".join(m) if isinstance(m, list) else m.replace(" ", "") for m in model["merges"])
    across = re.compile(f"[^{_SPACE}]{_SPACE}")
    return (
        told["normalizer"] == _NORMALIZER
        and told["pre_tokenizer"] is None
        and (model["type"], model["dropout"], model["byte_fallback"]) == ("BPE", None, True)
        and all(f"<0x{byte:02X}>" in model["vocab"] for byte in range(256))
        and _SPACE in model["vocab"]
        and not any(map(across.search, merged))
    )


_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": _SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
    ],
}


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
