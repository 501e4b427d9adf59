"""Images made ready for a model: recognised by content, checked whole, scaled where that is wished.

Nothing is decoded before its header has told how many pixels it has: a few kilobytes may unfold to
gigabytes.

Apart from `load` because it knows contents only, and neither places nor caches.
"""

from __future__ import annotations

import functools
import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vecferry.errors import JobError, TerminalError, is_own_fault, own_fault, shorten
from vecferry.transforms.embed.endpoints.base import Image
from vecferry.transforms.embed.images.content import image_tokens, kind_of
from vecferry.transforms.embed.images.spec import ImageRules

MOST_PIXELS = 1 << 28
"""Pixels in a header past which an image is not touched."""
MOST_DECODED = 1 << 26
"""Pixels that are decoded at a time in a process, at 3 or 4 bytes each; no image may have more."""

_TARGET = 0.95
"""Share of a model's limit that a re-encoded image may have: vendors count megabytes two ways."""


class Gate:
    """Lets so much pass at a time; what alone is more passes alone."""

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Waits until `amount` has room, and keeps it until the block ends."""
        with self._changed:
            while self._inside and self._inside + amount > self._most:
                self._changed.wait()
            self._inside += amount
        try:
            yield
        finally:
            with self._changed:
                self._inside -= amount
                self._changed.notify_all()


_decoding = Gate(MOST_DECODED)


@functools.cache
def pillow() -> Any:
    """The module ``PIL``; JobError with what to install where it is absent."""
    try:
        import PIL.Image
        import PIL.ImageOps
    except ModuleNotFoundError as e:
        raise JobError("inputType image needs Pillow: pip install 'vecferry[images]'") from e
    # Its own bound is looser than ours, and a warning from a library tells nobody which row it is.
    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return PIL


def prepare(key: bytes, content: bytes, rules: ImageRules) -> Image:
    """The image to be sent for `content`; TerminalError with the reason where there is none.

    It is the content itself, unless `most_pixels` is set and the image has more pixels, more bytes
    or another format than the model takes. Then it is scaled down and encoded anew, upright.
    """
    if not content:
        raise TerminalError("the image is empty: it has no bytes", "empty-image")
    kind = kind_of(content)
    if kind is None:
        raise TerminalError(
            f"this is not an image of a known format: it begins {shorten(content[:24], 60)}",
            "bad-image",
        )
    changes = rules.most_pixels is not None
    if not changes:
        _require_fitting(kind, len(content), rules)
    try:
        return _decode(key, content, kind, rules)
    except TerminalError:
        raise
    except pillow().Image.DecompressionBombError as e:
        raise TerminalError(f"{e}", "image-too-large") from e
    except Exception as e:  # decoders fail in many ways, all of them the image's own
        if is_own_fault(e):
            raise own_fault(f"the {kind} image of {len(content)} bytes", e) from e
        text = shorten(e) or type(e).__name__
        raise TerminalError(f"the {kind} image is broken or cut short: {text}", "bad-image") from e


def _require_fitting(kind: str, size: int, rules: ImageRules) -> None:
    if rules.formats is not None and kind not in rules.formats:
        raise TerminalError(
            f"the image is {kind}, and {rules.model} takes {', '.join(sorted(rules.formats))}: "
            "set imageMaxPixels to have such images encoded anew",
            "image-format",
        )
    if size > rules.most_bytes:
        raise TerminalError(
            f"the image has {size:,} bytes, and {rules.model} takes {rules.most_bytes:,}: "
            "set imageMaxPixels to have such images scaled down",
            "image-too-large",
        )


def _decode(key: bytes, content: bytes, kind: str, rules: ImageRules) -> Image:
    pil = pillow()
    with pil.Image.open(io.BytesIO(content), formats=(kind.upper(),)) as picture:
        width, height = picture.size
        bound = rules.most_pixels or width * height
        wanted = rules.formats is None or kind in rules.formats
        if width * height <= bound and len(content) <= rules.most_bytes and wanted:
            picture.draft("L", (max(1, width // 8), max(1, height // 8)))
            with _room_for(picture, width * height):
                picture.load()
            return Image(key, content, kind, image_tokens(width, height))
        share = min(1.0, math.sqrt(bound / (width * height)))
        size = max(1, int(width * share)), max(1, int(height * share))
        picture.draft(None, size)
        with _room_for(picture, width * height):
            upright = pil.ImageOps.exif_transpose(picture)
            if upright.size != picture.size:
                size = size[::-1]
            plain = _plain(upright)
            plain.thumbnail(size, pil.Image.Resampling.LANCZOS, reducing_gap=2.0)
            data, kind = _encode(plain, kind, rules)
        return Image(key, data, kind, image_tokens(*plain.size), scaled=True)


@contextmanager
def _room_for(picture: Any, pixels: int) -> Iterator[None]:
    """Holds the memory that decoding takes; JPEG may be decoded at an eighth of its size."""
    decoded = picture.size[0] * picture.size[1]
    if pixels > MOST_PIXELS or decoded > MOST_DECODED:
        raise TerminalError(
            f"the image has {pixels:,} pixels, and {MOST_DECODED:,} are decoded at most (a JPEG is "
            f"decoded smaller, up to {MOST_PIXELS:,})",
            "image-too-large",
        )
    with _decoding.hold(decoded):
        yield


def _plain(picture: Any) -> Any:
    """The picture in a mode that can be scaled and encoded: L, RGB or RGBA."""
    if picture.mode in ("L", "RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16"):
        plain = picture.point(lambda value: value / 256).convert("L")
    else:
        clear = picture.mode in ("LA", "PA", "RGBa", "La") or "transparency" in picture.info
        plain = picture.convert("RGBA" if clear else "RGB")
    plain.info.pop("icc_profile", None)  # it was of the mode before
    return plain


def _encode(picture: Any, kind: str, rules: ImageRules) -> tuple[bytes, str]:
    """A picture as a file of a format and size that the model takes, and the format."""
    most = int(rules.most_bytes * _TARGET)
    while True:
        for name, options in _encodings(picture, kind, rules):
            file = io.BytesIO()
            picture.save(file, name, icc_profile=picture.info.get("icc_profile"), **options)
            if file.tell() <= most:
                return file.getvalue(), name.lower()
        width, height = picture.size
        if width * height == 1:
            raise TerminalError(f"not a pixel of the image fits into {most} bytes")
        picture = picture.resize((max(1, width * 7 // 10), max(1, height * 7 // 10)))


def _encodings(picture: Any, kind: str, rules: ImageRules) -> Iterator[tuple[str, dict[str, Any]]]:
    takes_jpeg = rules.formats is None or "jpeg" in rules.formats
    if kind != "jpeg" or picture.mode == "RGBA" or not takes_jpeg:
        yield "PNG", {}
    if picture.mode != "RGBA" and takes_jpeg:
        yield from (("JPEG", {"quality": quality}) for quality in (90, 75, 60))
