"""What waits for a batch to fill, and how much room an input takes in one."""

from __future__ import annotations

from typing import Any

from vecferry.transforms.embed_image import Content, Image
from vecferry.transforms.embed_long import estimate_tokens

REQUEST_HEAD = 4096
"""Bytes of a request that are kept for all that is no image."""
IMAGE_HEAD = 64
"""Bytes that an image takes in a request beyond its base64."""


class Input:
    """A distinct input and the rows, with their vector columns, that wait for its vector."""

    __slots__ = ("alone", "content", "rows")

    def __init__(self, content: Content, row: Any, column: str, alone: bool) -> None:
        self.content, self.alone = content, alone
        self.rows = [(row, column)]


class Queue:
    """Inputs of one kind that are to be sent; `most` of them make a batch, or `most_size`."""

    __slots__ = ("inputs", "most", "most_size", "size")

    def __init__(self, most: int, most_size: int) -> None:
        self.inputs: list[Input] = []
        self.most, self.most_size, self.size = most, most_size, 0


def size_of(content: Content, most_tokens: int | None) -> int:
    """What an input takes of a batch: an image bytes; a text letters, or four times its tokens."""
    if type(content) is Image:
        return -(-len(content.data) // 3) * 4 + IMAGE_HEAD
    if most_tokens is not None:
        return 4 * estimate_tokens(content)
    return len(content)  # type: ignore[arg-type]
