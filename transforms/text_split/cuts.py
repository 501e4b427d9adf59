"""Where a text is cut: the splitting library, by characters or by tokens.

Apart from `splitter` because it knows texts only, and neither rows nor rejects.

The library asks for the length of each candidate. By tokens, it would encode each of them anew.
Here a document is encoded once, and a candidate's tokens are counted by its place in the document.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecferry.errors import JobError
from vecferry.process import PROCESS
from vecferry.transforms.text_split.settings import LOCAL, TextSplitSettings

Cut = Callable[[str], list[tuple[int, str]]]
"""Gives the chunks of a text in order, each with the place of its first character."""

_LINE_ENDS = dict.fromkeys(map(ord, "\r\n\x0b\x0c\x85\u2028\u2029"), " ")


def cutter(settings: TextSplitSettings) -> Cut:
    """How texts are cut as the settings say. Raises JobError for a tokenizer that can't be read."""
    cut = _by_tokens(settings) if settings.unit == "tokens" else _by_characters(settings)
    return _across_lines(cut) if settings.by == "sentence" else cut


def _across_lines(cut: Cut) -> Cut:
    """Cuts between sentences, wherever lines end: a line's end is a space to the library."""

    def sentences(text: str) -> list[tuple[int, str]]:
        found = cut(text.translate(_LINE_ENDS))
        return [(start, text[start : start + len(chunk)]) for start, chunk in found]

    return sentences


def _by_characters(settings: TextSplitSettings) -> Cut:
    kind, own = _library(settings)
    cut: Cut = kind(*own, settings.chunk_size, overlap=settings.overlap).chunk_indices
    return cut


def _by_tokens(settings: TextSplitSettings) -> Cut:
    kind, own = _library(settings)
    tokenizer = _tokenizer(settings.tokenizer)

    def cut(text: str) -> list[tuple[int, str]]:
        size = _Sizes(text, tokenizer)
        splitter = kind.from_callback(*own, size, settings.chunk_size, overlap=settings.overlap)
        found: list[tuple[int, str]] = splitter.chunk_indices(text)
        return found

    return cut


class _Sizes:
    """The number of tokens of parts of a text.

    The library asks for parts in about the order of the text, so each is looked for near the last.
    """

    def __init__(self, text: str, tokenizer: Any) -> None:
        text.encode()  # raises for half a surrogate pair, by which the tokenizer means a wrong type
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        self._text = text
        self._starts = [start for start, _ in offsets]
        self._ends = [end for _, end in offsets]
        self._last = 0

    def __call__(self, part: str) -> int:
        text, start = self._text, self._last
        if not text.startswith(part, start):
            start = text.find(part, max(0, start - len(part)))
            start = text.find(part) if start < 0 else start
        self._last = start
        first = bisect_right(self._ends, start)
        return bisect_left(self._starts, start + len(part)) - first


def _library(settings: TextSplitSettings) -> tuple[Any, list[Any]]:
    """The library's class, and what it takes before the size."""
    import semantic_text_splitter as library

    if settings.language is None:
        kind = library.MarkdownSplitter if settings.by == "markdown" else library.TextSplitter
        return kind, []
    name = settings.language.replace("-", "_")
    grammar = importlib.import_module(f"tree_sitter_{name}")
    # A package with several grammars names each of them.
    known = vars(grammar)
    language = known.get("language") or known[f"language_{name}"]
    return library.CodeSplitter, [language()]


def _tokenizer(named: str) -> Any:
    """A tokenizer, read once in a process."""
    return PROCESS.get(("text-splitting", named), lambda: _read(named))


def _read(named: str) -> Any:
    from tokenizers import Tokenizer

    # Its threads gain nothing on single documents, and do not survive a fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    path = str(_local() if named == LOCAL else Path(named))
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as e:  # the library raises a bare Exception for whatever is wrong
        raise JobError(
            f"tokenizer {named!r} can't be read ({e}); name the tokenizer.json of a model, or local"
        ) from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _local() -> Path:
    """Where the package of the local model has its tokenizer."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise JobError("tokenizer local needs wordllama: pip install 'vecferry[local]'")
    return Path(spec.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
