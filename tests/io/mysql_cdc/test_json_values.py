"""Binary JSON from bytes: sizes, inlined values, depth, and bytes that are wrong."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql_cdc.json_values import json_value
from vecferry.nesting import MOST_DEPTH


def text_part(text: str) -> bytes:
    """A text with its length of up to five bytes."""
    data, size = text.encode(), b""
    left = len(data)
    while True:
        size += bytes([left & 127 | (128 if left > 127 else 0)])
        left >>= 7
        if not left:
            return size + data


def encoded(value: Any, wide: bool) -> tuple[int, bytes]:
    """The type and the bytes of a value, as the format is documented."""
    if value is None or isinstance(value, bool):
        return 4, bytes([{None: 0, True: 1, False: 2}[value]])
    if isinstance(value, int):
        for kind, form in ((5, "<h"), (7, "<i"), (9, "<q"), (10, "<Q")):
            try:
                return kind, struct.pack(form, value)
            except struct.error:
                continue
    if isinstance(value, float):
        return 11, struct.pack("<d", value)
    if isinstance(value, str):
        return 12, text_part(value)
    return nested(value, wide)


def nested(value: Any, wide: bool) -> tuple[int, bytes]:
    """A list or an object, with offsets of two or four bytes."""
    form, size = ("<I", 4) if wide else ("<H", 2)
    keys = [k.encode() for k in value] if isinstance(value, dict) else []
    values = list(value.values()) if isinstance(value, dict) else value
    at = 2 * size + len(keys) * (size + 2) + len(values) * (1 + size)
    head, tail = b"", b""
    for key in keys:
        head += struct.pack(form, at + len(tail)) + struct.pack("<H", len(key))
        tail += key
    for one in values:
        kind, data = encoded(one, wide)
        if kind in (4, 5, 6) or (wide and kind in (7, 8)):
            head += bytes([kind]) + data.ljust(size, b"\0")
        else:
            head += bytes([kind]) + struct.pack(form, at + len(tail))
            tail += data
    whole = struct.pack(form, len(values)) + struct.pack(form, at + len(tail)) + head + tail
    return (0 if keys or isinstance(value, dict) else 2) + wide, whole


def document(value: Any, *, wide: bool = False) -> bytes:
    kind, data = encoded(value, wide)
    return bytes([kind]) + data


def some(chance: random.Random, depth: int = 0) -> Any:
    """A document by chance."""
    pick = chance.randrange(8 if depth < 4 else 6)
    if pick == 6:
        return [some(chance, depth + 1) for _ in range(chance.randrange(5))]
    if pick == 7:
        return {f"k{i}ä": some(chance, depth + 1) for i in range(chance.randrange(5))}
    numbers = chance.choice([0, -1, 32767, -32769, 1 << 31, -(1 << 40), (1 << 64) - 1])
    return [None, True, False, numbers, chance.random(), "ü" * chance.randrange(200)][pick]


@pytest.mark.parametrize("wide", [False, True])
def test_documents_are_read_as_they_were_written(wide: bool) -> None:
    """Whatever they hold, with offsets of two bytes and of four."""
    chance = random.Random(7)
    for _ in range(300):
        value = some(chance)
        assert json_value(document(value, wide=wide)) == value


@pytest.mark.parametrize(
    ("number", "shown"),
    [(2.0, "2"), (-0.0, "0"), (1e14, "100000000000000"), (1e15, "1000000000000000.0"),
     (-999999999999999.0, "-999999999999999"), (0.5, "0.5"), (1e100, "1e+100")],
)  # fmt: skip
def test_an_old_server_writes_whole_doubles_without_a_point(number: float, shown: str) -> None:
    """MySQL 5.7, but for those with an exponent; whole numbers stay."""
    found = json_value(document({"a": [number, 7]}), short=True)
    assert repr(found) == f"{{'a': [{shown}, 7]}}"
    assert repr(json_value(document(number))) == repr(number)


def test_a_long_text_has_a_length_of_several_bytes() -> None:
    """Seven bits in each."""
    assert json_value(document("x" * 3_000_000)) == "x" * 3_000_000


def test_no_bytes_are_null() -> None:
    """A server writes none where it made up a value for a column that must not be null."""
    assert json_value(b"") is None


def test_a_document_that_is_too_deep_is_refused_as_in_a_select() -> None:
    """The words are those of the reader of tables."""
    value: Any = []
    for _ in range(MOST_DEPTH):
        value = [value]
    found = json_value(document(value, wide=True))
    assert isinstance(found, UnfitValue)
    assert found.reason == "too-deep"
    assert json_value(document(value[0], wide=True)) == value[0]


@pytest.mark.parametrize(
    "data",
    [
        b"\x63",
        b"\x04\x09",
        b"\x0c\x05ab",
        b"\x02\xff\xff\x00\x00",
        b"\x00\x01\x00",
        b"\x0c\xff\xff\xff\xff\xff\xff",
    ],
)
def test_wrong_bytes_raise_what_the_reader_of_rows_explains(data: bytes) -> None:
    """Never a value that is not there."""
    with pytest.raises((ValueError, IndexError, struct.error)):
        json_value(data)


def test_cut_documents_never_hang() -> None:
    """A prefix of a document is an error or a value, at once."""
    whole = document({"a": [1, "text", {"b": 2.5}]})
    for size in range(1, len(whole)):
        with pytest.raises((ValueError, IndexError, struct.error)):
            json_value(whole[:size])
