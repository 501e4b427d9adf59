"""What a row says of its image: where it lies, how its content is found, how it is called."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from vecferry.errors import TerminalError, redact, shorten

Kind = Literal["content", "base64", "data", "url", "path"]

PATCH = 28
"""Pixels along a side of the square that vision models of the Qwen family take for one token."""
MOST_TOKENS = 1280

_BASE64_HEAD = 64
_ALPHABET = bytes.maketrans(b"-_", b"+/")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def image_key(content: bytes, most_pixels: int | None) -> bytes:
    """What an image is called in caches, 20 bytes; no text has the same name."""
    bound = (most_pixels or 0).to_bytes(8, "big")
    return blake2b(content, digest_size=20, person=b"image", salt=bound).digest()


def image_tokens(width: int, height: int) -> int:
    """About how many tokens an image of so many pixels is billed as."""
    return min(MOST_TOKENS, max(4, math.ceil(width / PATCH) * math.ceil(height / PATCH)))


class ImageSource:
    """Where the image of a row is: `value` is its content, a text that holds it, or a place."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: Kind, value: Any) -> None:
        self.kind, self.value = kind, value

    @property
    def at_a_place(self) -> bool:
        """Whether the row names a place where the image lies."""
        return self.kind in ("url", "path")

    @property
    def shown(self) -> str:
        """The source in messages: never a whole content, nor the signature of a URL."""
        if self.kind == "url":
            return shown_url(self.value)
        if self.kind == "path":
            return repr(shorten(self.value, 120))
        what = {"content": "bytes", "base64": "characters of base64", "data": "characters of data:"}
        return f"{len(self.value):,} {what[self.kind]}"


def shown_url(url: str) -> str:
    """A URL without what stands behind its `?`, where signatures are, and without a password."""
    head, mark, _ = url.partition("?")
    return redact(shorten(head, 160)) + ("?…" if mark else "")


def source_of(value: str | bytes, *, paths: bool) -> ImageSource:
    """What a value of an image column means; raises TerminalError where it means nothing.

    Text is a ``data:`` URI, an http(s) URL, or base64 of an image, which begins as an image does.
    If `paths` is set, the step has a data source, and any other text is a path in it.
    """
    if type(value) is bytes:
        return ImageSource("content", value)
    assert isinstance(value, str)
    text = value.strip()
    if text[:5].lower() == "data:":
        return ImageSource("data", text)
    if text[:8].lower().startswith(("http://", "https://")):
        return ImageSource("url", text)
    if _is_base64_image(text):
        return ImageSource("base64", text)
    if paths:
        return ImageSource("path", value)
    scheme = _SCHEME.match(value)
    if scheme is not None:
        raise TerminalError(
            f"images aren't fetched from {shorten(scheme.group(), 40)}: give an http(s) URL, or a "
            "path inside the data source that imageDatasource names",
            "bad-image",
        )
    raise TerminalError(
        f"{shorten(value, 60)!r} is neither base64 of an image, nor a data: URI, nor an http(s) "
        "URL; for a path, name its data source in imageDatasource",
        "bad-image",
    )


def missing_column(name: str, row: dict[str, Any]) -> TerminalError:
    """The fault of a row that lacks a source column."""
    have = shorten(", ".join(map(str, row))) or "no column at all"
    return TerminalError(f"column {name!r} is not in the row, which has {have}", "missing-column")


def source_maker(name: str, *, paths: bool) -> Callable[[dict[str, Any]], Any]:
    """A function from a row to the `ImageSource` of its image in column `name`.

    The function gives "" where the row has none.

    Raises `TerminalError` for a row without the column, or with a value that is not an image.
    """

    def source(row: dict[str, Any]) -> Any:
        try:
            value = row[name]
        except KeyError:
            raise missing_column(name, row) from None
        if isinstance(value, bytearray | memoryview):
            value = bytes(value)
        if value is None or value in ("", b""):
            return ""
        if not isinstance(value, str | bytes):
            raise TerminalError(
                f"column {name!r} holds a {type(value).__name__}, which is not an image: give "
                "bytes, base64, a data: URI, an http(s) URL or a path",
                "bad-image",
            )
        return source_of(value, paths=paths)

    return source


def content_of(source: ImageSource) -> bytes:
    """The content that a source of kind content, base64 or data holds; TerminalError if broken."""
    if source.kind == "content":
        return bytes(source.value)
    text: str = source.value
    if source.kind == "data":
        head, comma, body = text.partition(",")
        if not comma:
            raise TerminalError("the data: URI has no comma before its data", "bad-image")
        content = unquote_to_bytes(body)
        if not head.lower().rstrip().endswith(";base64"):
            return content
    try:
        return _from_base64(text.encode() if source.kind == "base64" else content)
    except ValueError as e:
        raise TerminalError(f"the image is not valid base64: {e}", "bad-image") from e


def kind_of(content: bytes) -> str | None:
    """The format of an image by its first bytes, None where they are of none that is known."""
    head = content[:32]
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "bmp"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    return None


def _is_base64_image(text: str) -> bool:
    try:
        return kind_of(_from_base64(text[:_BASE64_HEAD].encode())) is not None
    except ValueError:
        return False


def _from_base64(text: bytes) -> bytes:
    """What base64 holds, of either alphabet (``+/`` or ``-_``), padded or not, on many lines."""
    plain = text.translate(_ALPHABET, b"= \t\r\n")
    return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4))
