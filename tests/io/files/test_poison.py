"""Poison costs itself: deep nesting, open quotes, pipes, and thousands of damaged files."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from tests.contracts.files import FORMATS, Case
from tests.effort import LONG
from tests.io.files.test_source import read, reader, rejects
from tests.native import damaged
from vecferry.errors import VecferryError
from vecferry.io.files.settings import LocalConnection
from vecferry.nesting import MOST_DEPTH, too_deep
from vecferry.rows import Change, Reject


def _nested(depth: int, kind: str = "object") -> bytes:
    if kind == "array":
        return b'{"id": 1, "a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    if kind == "mixed":
        half = (depth - 1) // 2
        return b'{"a": ' + b'[{"b":' * half + b"1" + b"}]" * half + b"}"
    if kind == "wide":
        return b'{"w": [' + b'{"x": [1]},' * 300 + _nested(depth - 2) + b"]}"
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("kind", ["object", "array", "mixed", "wide"])
@pytest.mark.parametrize("depth", [203, 255, 399, 981, 1001, 20_001])
@pytest.mark.parametrize("beside", [0, 400])
def test_a_line_that_is_nested_too_deep_is_a_reject(
    tmp_path: Path, kind: str, depth: int, beside: int
) -> None:
    """Its neighbours are read, whether lines are short or long."""
    good = json.dumps({"id": 7, "t": "x" * beside}).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good, _nested(depth, kind), good]))
    items = read(reader(tmp_path))
    assert [type(i) for i in items] == [Change, Reject, Change]
    assert [i.reason for i in items if isinstance(i, Reject)] == ["too-deep"]


@pytest.mark.parametrize("kind", ["object", "array", "mixed", "wide"])
def test_what_is_just_within_the_bound_is_a_row(tmp_path: Path, kind: str) -> None:
    """As deep as 200, it can be read and written as well."""
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\n' * 300 + _nested(199, kind))
    items = read(reader(tmp_path))
    assert len(items) == 301
    assert not rejects(reader(tmp_path))
    orjson.dumps(dict(items[-1]))  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.parametrize("beside", [0, 400])
@pytest.mark.parametrize(
    "value",
    [
        *("[]", "{}", '["a", "b"]', '{"b": {"c": [1, 2.5, null]}}', '"[[{{"', '"é"', "-0", "-0.0"),
        *("18446744073709551616", "-9223372036854775809", "1e5", "1.0", "0.1", "true", "null"),
        "[" + ", ".join(['{"x": [1]}'] * 300) + "]",
    ],
)
def test_lists_and_objects_change_nothing_for_the_lines_around(
    tmp_path: Path, value: str, beside: int
) -> None:
    """Rows with and without them are read by different decoders, and come out alike."""
    plain = json.dumps({"id": 7, "t": "x" * beside})
    with_value = plain[:-1] + f', "v": {value}}}'
    (tmp_path / "a.jsonl").write_text("\n".join([plain, with_value, plain, with_value] * 40))
    rows = [dict(i) for i in read(reader(tmp_path)) if isinstance(i, Change)]
    expected = [json.loads(plain), json.loads(with_value)] * 80
    assert [repr(row) for row in rows] == [repr(row) for row in expected]


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        (b'"' + b"[" * 500 + b'"', False),
        (b'{"a\\"' + b"{" * 500 + b'": 1}', False),
        (b"[[1],[2]," * 1 + b"[1]," * 5000 + b"[2]]", False),
        (b"[" * MOST_DEPTH + b"]" * MOST_DEPTH, False),
        (b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), True),
        (b'["\\\\",' + b"[" * 300 + b"]" * 301, True),
        ("[" * 300 + "\ud800" + "]" * 300, True),
    ],
)
def test_brackets_in_texts_do_not_count(text: bytes | str, deep: bool) -> None:
    """What counts is what a parser would nest."""
    assert too_deep(text) is deep


@pytest.mark.slow
def test_an_open_quote_costs_neither_memory_nor_rows(tmp_path: Path) -> None:
    """Two megabytes of short lines behind an open quote are read as the lines that they are."""
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"open\n' + b"2,ok\n" * 400_000)
    source = reader(tmp_path, fileFormat="csv", skipHeader=True)
    tracemalloc.start()
    try:
        found = sum(1 if isinstance(item, Change) else 1000 for s in source.plan().splits
                    for item in source.read(s))  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 401_000
    assert peak < 26 << 20


def test_a_pipe_or_a_device_is_never_waited_for(tmp_path: Path) -> None:
    """Opening one of them is refused at once; so an image that is a pipe costs its row."""
    os.mkfifo(tmp_path / "pipe.png")
    store = LocalConnection(path=str(tmp_path)).open_files()
    with pytest.raises(FileNotFoundError):
        store.open("pipe.png")
    with pytest.raises(IsADirectoryError):
        store.open(".")


def _packed(case: Case) -> list[tuple[str, bytes]]:
    data = case.make()
    if not case.text:
        return [(case.name, data)]
    return [
        (case.name, data),
        (case.name + ".gz", gzip.compress(data)),
        (case.name + ".bz2", bz2.compress(data)),
        (case.name + ".zst", bytes(pa.Codec("zstd").compress(data))),
    ]


MUTATED = 2000 if LONG else 120


@pytest.mark.slow
@pytest.mark.tries
def test_damaged_files_end_in_rows_rejects_or_words(tmp_path: Path) -> None:
    """Files of all formats and packings, each with a fault: nothing else comes out of a reader."""
    unnamed: list[tuple[int, str]] = []
    files = [(case, *file) for case in FORMATS for file in _packed(case)]
    ends = {"read": 0, "words": 0}
    for seed in range(MUTATED):
        rng = random.Random(seed)
        case, name, data = files[seed % len(files)]
        (tmp_path / name).write_bytes(damaged(data, rng))
        source = reader(tmp_path, rng.choice([64, 1 << 26]), object=name, **_job(case))
        try:
            source.check()
            items = read(source)
        except VecferryError as e:
            ends["words"] += 1
            unnamed += [] if name in str(e) else [(seed, str(e))]
        except Exception as e:
            raise AssertionError(f"seed {seed}, {name}: {e!r}") from e
        else:
            ends["read"] += bool(items)
    assert unnamed == []
    assert min(ends.values()) > MUTATED // 10, ends


def _job(case: Case) -> dict[str, Any]:
    return {k: v for k, v in case.parameters.items() if k != "path"}
