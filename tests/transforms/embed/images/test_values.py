"""What a value of an image column means, and what is made of the image before it is sent."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any
from urllib.parse import quote

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import tries
from tests.transforms.embed.images.support import file_of, image_settings, opened, pixels, png
from vecferry.errors import TerminalError
from vecferry.steps import StepContext
from vecferry.transforms.embed.endpoints.base import Image
from vecferry.transforms.embed.images.content import (
    content_of,
    image_key,
    kind_of,
    source_maker,
    source_of,
)
from vecferry.transforms.embed.images.prepare import prepare
from vecferry.transforms.embed.images.spec import ImageRules
from vecferry.transforms.embed.shared import cache_key, shared_of
from vecferry.transforms.embed.text import text_of

pytestmark = [  # a run does not show them either
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
MB = 1 << 20
RULES = image_settings(None).image_spec.rules
KINDS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")


def rules(**more: Any) -> ImageRules:
    """The rules of a model that takes what most do, changed."""
    return ImageRules(**({"model": "m", "most_bytes": RULES.most_bytes} | more))


def refused(content: bytes, by: ImageRules) -> TerminalError:
    """The fault of an image."""
    with pytest.raises(TerminalError) as e:
        prepare(b"key", content, by)
    return e.value


def test_the_five_forms_of_a_value_are_told_apart_by_what_they_say() -> None:
    """Bytes, base64 of an image, data: URI, URL and path; a path only where there is a source."""
    text = base64.b64encode(png(1)).decode()
    forms = {
        "content": png(1),
        "base64": text,
        "data": f"data:image/png;base64,{text}",
        "url": "HTTPS://example.org/a.png?x=1",
        "path": "pictures/a b.png",
    }
    assert {name: source_of(value, paths=True).kind for name, value in forms.items()} == {
        name: name for name in forms
    }
    for name in ("content", "base64", "data"):
        assert content_of(source_of(forms[name], paths=False)) == png(1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_known_by_its_content_in_bytes_and_in_base64(kind: str) -> None:
    """Nothing has a name, and each format is found; its base64 is not taken for a path."""
    data = file_of(pixels(2), kind)
    assert kind_of(data) == kind.lower()
    assert source_of(base64.b64encode(data).decode(), paths=True).kind == "base64"
    prepared = prepare(b"key", data, rules())
    assert (prepared.data, prepared.kind, prepared.scaled) == (data, kind.lower(), False)


@pytest.mark.parametrize("kind", KINDS)
def test_base64_is_known_however_it_is_written(kind: str) -> None:
    """On many lines, with blanks around it, in the alphabet of URLs, without its padding."""
    data = file_of(pixels(2), kind)
    plain, safe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    for text in (f"\n  {plain}\n", lines, safe, plain.rstrip("="), safe.rstrip("=")):
        source = source_of(text, paths=True)
        assert (source.kind, content_of(source)) == ("base64", data)
    assert content_of(source_of(f" data:image/{kind};base64,{safe}", paths=True)) == data
    assert source_of(" https://example.org/a.png ", paths=True).value == "https://example.org/a.png"


def test_a_data_uri_may_be_percent_encoded() -> None:
    """With base64 that is quoted, and without base64."""
    text = base64.b64encode(png(3)).decode()
    quoted = "data:image/png;base64," + quote(text, safe="")
    assert content_of(source_of(quoted, paths=False)) == png(3)
    plain = "data:image/png," + quote(png(3))
    assert content_of(source_of(plain, paths=False)) == png(3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("pictures/a.png", "imageDatasource"),
        ("file:///etc/passwd", "file://"),
        ("ftp://example.org/a.png", "http(s) URL"),
        ("hello", "neither base64"),
        (17, "holds a int"),
        (["a.png"], "holds a list"),
    ],
)
def test_a_value_that_is_no_image_is_refused_in_words(value: Any, words: str) -> None:
    """The fault says what the value may be."""
    with pytest.raises(TerminalError) as e:
        source_maker("pic", paths=False)({"pic": value})
    assert e.value.reason == "bad-image"
    assert words in str(e.value)


@pytest.mark.parametrize("value", ["data:image/png;base64", "data:image/png;base64,abcde"])
def test_a_broken_data_uri_is_refused(value: str) -> None:
    """One without data, and one whose base64 is cut."""
    with pytest.raises(TerminalError) as e:
        content_of(source_of(value, paths=False))
    assert e.value.reason == "bad-image"


@pytest.mark.parametrize("value", [None, "", b"", bytearray()])
def test_a_row_without_an_image_has_none(value: Any) -> None:
    """Null and empty values are neither an image nor a fault; an absent column is one."""
    make = source_maker("pic", paths=False)
    assert make({"pic": value}) == ""
    with pytest.raises(TerminalError) as e:
        make({"id": 1})
    assert e.value.reason == "missing-column"


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_cut_short_is_refused(kind: str) -> None:
    """Its header is whole, so that only decoding it shows what is missing."""
    data = file_of(pixels(4, 200, 100), kind)
    fault = refused(data[: len(data) * 2 // 3], rules())
    assert fault.reason == "bad-image"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty-image"),
        (b"<html><h1>404</h1></html>", "bad-image"),
        (b"%PDF-1.7", "bad-image"),
        (b"\x89PNG\r\n\x1a\n", "bad-image"),
        (b"\xff\xd8\xff\xe0 not more than that", "bad-image"),
        (file_of(pixels(5), "GIF"), "image-format"),
        (png(5, 1100, 1100), "image-too-large"),
    ],
    ids=["empty", "html", "pdf", "png head", "jpeg head", "gif", "4 MB"],
)
def test_what_the_model_does_not_take_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    """By the rules of a model that takes JPEG, PNG and BMP up to 3 MiB."""
    assert refused(content, RULES).reason == reason


@pytest.mark.parametrize("content", [file_of(pixels(5), "GIF"), png(5, 1100, 1100)])
def test_a_refusal_that_scaling_would_spare_says_so(content: bytes) -> None:
    """The way out of a wrong format and of too many bytes is imageMaxPixels."""
    assert "imageMaxPixels" in str(refused(content, RULES))


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it has so many pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bound", [None, 1_000_000])
@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 30_000)])
def test_a_decompression_bomb_is_refused_by_its_header(
    size: tuple[int, int], bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is decoded, whether images may be scaled or not."""
    decoded: list[object] = []
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: decoded.append(self))
    assert refused(bomb(*size), rules(most_pixels=bound)).reason == "image-too-large"
    assert decoded == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_scaling_keeps_to_the_bound_and_to_the_proportions(kind: str) -> None:
    """300 x 200 with a bound of 15,000 pixels becomes 150 x 100, in a format that is taken."""
    by = rules(most_pixels=15_000, formats=RULES.formats)
    prepared = prepare(b"key", file_of(pixels(6, 300, 200), kind), by)
    assert prepared.scaled
    assert opened(prepared.data).size == (150, 100)
    assert prepared.kind in RULES.formats  # type: ignore[operator]


def test_an_image_within_the_bound_is_sent_as_it_is() -> None:
    """Not a byte of it changes."""
    prepared = prepare(b"key", png(7), rules(most_pixels=1_000_000))
    assert (prepared.data, prepared.scaled) == (png(7), False)


@pytest.mark.slow
def test_an_image_of_too_many_bytes_is_encoded_smaller_where_that_is_wished() -> None:
    """4.6 MB of noise come to fit into 3 MiB; the pixels were within the bound."""
    data = png(8, 1240, 1240)
    assert len(data) > 4 * MB
    prepared = prepare(b"key", data, rules(most_pixels=2_000_000))
    assert len(prepared.data) <= 3 * MB
    assert prepared.scaled


def test_a_scaled_image_stands_upright() -> None:
    """The turn that a camera noted is made before the note is lost."""
    picture = PIL.Image.new("RGB", (400, 200), "white")
    picture.paste("red", (0, 0, 200, 200))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is left is to be on top
    prepared = prepare(
        b"key", file_of(picture, "JPEG", exif=exif, quality=95), rules(most_pixels=20_000)
    )
    turned = opened(prepared.data).convert("RGB")
    assert turned.size == (100, 200)
    top: Any = turned.getpixel((50, 20))
    assert top[0] > 200
    assert top[1] < 80


def test_what_is_transparent_stays_so() -> None:
    """A palette with transparency becomes a PNG with an alpha channel."""
    picture = PIL.Image.new("RGBA", (200, 200), (255, 0, 0, 0)).convert("P")
    data = file_of(picture, "GIF", transparency=0)
    prepared = prepare(b"key", data, rules(most_pixels=10_000, formats=RULES.formats))
    assert opened(prepared.data).mode == "RGBA"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_can_be_scaled(mode: str) -> None:
    """Bilevel, grey, palette, 16 bit and the colours of printing."""
    grey = np.linspace(0, 255, 120 * 90, dtype=np.uint8).reshape(90, 120)
    picture = PIL.Image.fromarray(grey)
    picture = PIL.Image.new("I;16", (120, 90)) if mode == "I;16" else picture.convert(mode)
    data = file_of(picture, "TIFF" if mode == "CMYK" else "PNG")
    prepared = prepare(b"key", data, rules(most_pixels=2_000, formats=RULES.formats))
    width, height = opened(prepared.data).size
    assert width * height <= 2_000


@pytest.mark.slow
@tries(60, 600)
@given(
    st.sampled_from([file_of(pixels(9, 20, 10), kind) for kind in KINDS]),
    st.integers(0, 400),
    st.binary(max_size=40),
    st.sampled_from([None, 1024, 100]),
)
def test_whatever_the_bytes_an_image_is_taken_or_refused(
    data: bytes, at: int, junk: bytes, bound: int | None
) -> None:
    """Damage anywhere in a file raises nothing but a TerminalError."""
    damaged = data[:at] + junk + data[at + len(junk) :]
    reasons: list[str] = []
    try:
        prepare(b"key", damaged, rules(most_pixels=bound))
    except TerminalError as e:
        reasons.append(e.reason)
    assert set(reasons) <= {"bad-image", "empty-image", "image-too-large"}


def test_a_text_and_an_image_of_the_same_bytes_never_share_a_key() -> None:
    """Neither in a process nor in the vector cache, nor do two bounds of pixels share one."""
    content = b"II*\0 is what a TIFF begins with"
    image = Image(image_key(content, None), content)
    text = text_of(content, "pic")
    shared = shared_of(image_settings(None), StepContext(step="e", step_type="t"))
    assert cache_key(image) != cache_key(text)
    assert shared.store_key(image) != shared.store_key(text)
    long_text = text * 100
    assert cache_key(Image(image_key(long_text.encode(), None))) != cache_key(long_text)
    assert image_key(content, 1024) != image_key(content, None)
    assert image_key(content, None) == image_key(bytes(content), None)
