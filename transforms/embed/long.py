"""Texts that are longer than their model takes: cut, or embedded in pieces.

Lengths are estimated, for no vendor gives its tokenizer away with its API: four ASCII characters
to a token, other characters a token each. That is on the safe side for English and Chinese; what
is cut keeps a tenth below the limit besides.
"""

from __future__ import annotations

import math
import re

import numpy as np

from vecferry.transforms.embed.endpoints.base import Content, Image, Vector

MARGIN = 0.9
_BREAK = re.compile(r"(?s).*(?:[.!?。！？]\s+|\n|[。！？])")
_SPACE = re.compile(r"(?s).*\s")


def estimate_tokens(text: Content) -> int:
    """About how many tokens a text has; 0 for an empty one. An image knows its own number."""
    if isinstance(text, Image):
        return text.tokens
    if text.isascii():
        return math.ceil(len(text) / 4)
    wide = (len(text.encode("utf-8", "surrogatepass")) - len(text)) / 2
    wide = min(wide, len(text))
    return math.ceil((len(text) - wide) / 4 + wide)


def is_long(text: str, limit: int) -> bool:
    """Whether a text may have more than `limit` tokens."""
    return len(text) > limit and estimate_tokens(text) > limit


def pieces_of(text: str, limit: int) -> list[str]:
    """`text` in pieces of at most about ``0.9 * limit`` tokens, none of them empty.

    Pieces end with a sentence or a line where one ends in their last half, else between words.
    """
    pieces: list[str] = []
    while is_long(text, limit):
        piece = _beginning(text, int(limit * MARGIN) or 1)
        pieces.append(piece)
        text = text[len(piece) :]
    return [piece for piece in (*pieces, text) if piece.strip()] or [text]


def inputs_of(text: str, limit: int | None, over: str) -> tuple[list[str], bool]:
    """The inputs that are sent for a text, as `overLimit` says; True where it goes alone."""
    if limit is None or not is_long(text, limit):
        return [text], False
    if over == "reject":
        return [text], True
    pieces = pieces_of(text, limit)
    return (pieces[:1] if over == "truncate" else pieces), False


def _beginning(text: str, most: int) -> str:
    """The longest beginning of about `most` tokens, cut where a reader would."""
    low, high = min(most, len(text)), min(4 * most, len(text))
    while low < high:  # tokens only grow with the length
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) <= most:
            low = middle
        else:
            high = middle - 1
    piece = text[: max(low, 1)]
    for where in (_BREAK, _SPACE):
        found = where.match(piece)
        if found and found.end() >= len(piece) // 2:
            return found.group()
    return piece


def mean_vector(vectors: list[Vector], weights: list[int]) -> Vector:
    """The mean of the pieces' vectors by their lengths; of unit length where all of them are."""
    matrix = np.vstack(vectors).astype(np.float64)
    mean = np.average(matrix, axis=0, weights=weights)
    if np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-3):
        mean /= np.linalg.norm(mean) or 1.0
    vector = mean.astype(np.float32)
    vector.flags.writeable = False
    return vector
