"""The quick ways of parsing give what the careful ones give, whatever a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.contracts.files import items_of, shown
from tests.effort import tries
from vecferry.errors import FatalError
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.formats.csv import BLOCK_BYTES, CsvSpec
from vecferry.io.files.formats.records import Fields
from vecferry.io.files.source import FileSource
from vecferry.rows import Change
from vecferry.steps import StepContext

SPLITS = (1, 7, 64)


def read(folder: Path, pieces: int = 1, **job: Any) -> list[Any]:
    """What is read of the only file `f` of a folder, cut into so many pieces."""
    size = (folder / "f").stat().st_size
    reader = FileSource(
        FilesSettings.model_validate({"path": "f", **job}),
        LocalConnection(path=str(folder)),
        StepContext(step="Reader", step_type="file"),
        split_bytes=-(-size // pieces) or 1,
    )
    items = items_of(reader)
    assert reader.counts.values.get("rows-read", 0) == len(items)
    assert reader.counts.values.get("bytes-read", 0) == size
    return shown(items)


def _no_quick_csv(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CsvSpec, "by_block", False)


def _line_by_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fields, "_all_good", lambda parser, block, at: [])


_LINES = [b'{"a":[{}', b"{}]}", b"{},{}", b'{"a":"x', b'y"}', b"{}", b" {} ", b"1", b"[]", b'""']
_LINES += [b"{} {}", b'{"a":', b"{}}", b"{}{}", b'{"a":{},', b'"b":{}}', b"", b"\r", b"{}\r"]


@pytest.mark.slow
@tries(100, 2000)
@given(lines=st.lists(st.sampled_from(_LINES), max_size=8))
@example(lines=[b'{"a":[{}', b"{}]}", b"{},{}"])
@example(lines=[b'{"a":"x', b'y"}', b"{}"])
@example(lines=[b"", b"{} {}"])
@example(lines=[b'{"a":', b"{}}", b"{} {}"])
@example(lines=[b'{"a":{},', b'"b":{}}', b"{}{}", b"{}"])
def test_json_lines_that_only_make_sense_together_are_rejected(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """No value spans lines, and no line has two, though they are parsed by the block.

    A file that is one object over several lines is refused as a whole.
    """
    folder = tmp_path_factory.mktemp("json")
    (folder / "f").write_bytes(b"\n".join(lines))
    refused, kept = "", 0
    try:
        kept = sum(isinstance(i[1], dict) for i in read(folder, fileFormat="jsonl"))
    except FatalError as e:
        refused = str(e)
    whole = "JSON text that goes over several lines" in refused
    assert whole or (kept, refused) == (sum(line.strip() == b"{}" for line in lines), "")


_FIELD = st.text('ab",|\r\n\\N é中\x00', max_size=5)
_QUOTED = _FIELD.map(lambda f: '"' + f.replace('"', '""') + '"')
_BARE = st.text("ab é中1.-", max_size=4)
_RECORD = st.lists(st.one_of(_QUOTED, _BARE, _FIELD), min_size=1, max_size=4)
_JOBS: list[dict[str, Any]] = [
    {"column": [{"index": 0}]},
    {"column": [{"index": 1, "type": "long"}, {"index": 0}, {"name": "c", "value": "v"}]},
    {"skipHeader": True},
    {"column": [{"index": 0}], "csvReaderConfig": {"multiline": False}},
    {"column": [{"index": 0}], "csvReaderConfig": {"useTextQualifier": False}},
    {"column": [{"index": 0}], "csvReaderConfig": {"skipEmptyRecords": False}},
    {"column": [{"index": 0}], "nullFormat": None},
    {"column": [{"index": 0}], "nullFormat": ""},
]


@pytest.mark.slow
@pytest.mark.parametrize("job", _JOBS, ids=range(len(_JOBS)))
@tries(25, 500)
@given(
    records=st.lists(_RECORD, max_size=12),
    delimiter=st.sampled_from(",|\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "gbk", "gb18030"]),
    tail=st.sampled_from(["", "\n", '"', "\r"]),
)
def test_quick_csv_is_careful_csv(
    tmp_path_factory: pytest.TempPathFactory,
    job: dict[str, Any],
    records: list[list[str]],
    delimiter: str,
    ending: str,
    encoding: str,
    tail: str,
) -> None:
    """All three ways give the same rows, nulls, types, origins and rejects with their raw records.

    The ways are columns of a block, lines of a block, and a line at a time.
    """
    text = ending.join(delimiter.join(r) for r in records) + tail
    folder = tmp_path_factory.mktemp("csv")
    header = delimiter.join("xy") + ending if "skipHeader" in job else ""
    (folder / "f").write_bytes((header + text).encode(encoding, "replace"))
    given_job = {"fileFormat": "csv", "fieldDelimiter": delimiter, "encoding": encoding, **job}
    quick = read(folder, **given_job)
    with pytest.MonkeyPatch.context() as patch:
        _no_quick_csv(patch)
        assert quick == read(folder, **given_job)
        _line_by_line(patch)
        assert quick == read(folder, **given_job)


@pytest.mark.slow
@tries(50, 1000)
@given(
    text=st.text("ab|\r\n 中1", max_size=40),
    kind=st.sampled_from([None, "long"]),
    encoding=st.sampled_from(["utf-8", "gbk"]),
)
def test_lines_of_text_are_the_same_by_the_block(
    tmp_path_factory: pytest.TempPathFactory, text: str, kind: str | None, encoding: str
) -> None:
    """Fields between delimiters: rows, types, origins and rejects as from a line at a time."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "f").write_bytes(text.encode(encoding))
    column = [{"index": 1, "type": kind}, {"index": 0}]
    job = {"fileFormat": "text", "fieldDelimiter": "|", "encoding": encoding, "column": column}
    at_once = read(folder, **job)
    with pytest.MonkeyPatch.context() as patch:
        _line_by_line(patch)
        assert at_once == read(folder, **job)


_WORD = st.text("ab 中乂亅|,é\"'{}\\1", max_size=12)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "gb18030"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "text"])
@tries(25, 500)
@given(
    words=st.lists(st.tuples(_WORD, _WORD), max_size=40),
    delimiter=st.sampled_from(["|", ",", "||"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    ended=st.booleans(),
)
def test_no_row_is_lost_or_doubled_by_a_cut(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    encoding: str,
    words: list[tuple[str, str]],
    delimiter: str,
    ending: str,
    mark: bool,
    ended: bool,
) -> None:
    """1, 7 and 64 splits give the rows that were written, in encodings whose trail byte is |."""
    import orjson

    delimiter = delimiter[:1] if kind == "csv" else delimiter
    words = [tuple(w.encode(encoding, "ignore").decode(encoding) for w in p) for p in words]  # type: ignore[misc]
    if kind == "text":
        words = [
            (a.replace("|", "").replace(",", ""), b.replace("|", "").replace(",", ""))
            for a, b in words
        ]
    column = [{"index": 0, "name": "a"}, {"index": 1, "name": "b"}]
    job: dict[str, Any] = {"fileFormat": kind, "encoding": encoding, "nullFormat": None}
    if kind == "jsonl":
        lines = [orjson.dumps({"a": a, "b": b}).decode() for a, b in words]
    else:
        job |= {"fieldDelimiter": delimiter, "column": column}
        job |= {"csvReaderConfig": {"multiline": False}}
        quote = '"' if kind == "csv" else ""
        lines = [
            delimiter.join(quote + w.replace('"', '""' if quote else '"') + quote for w in pair)
            for pair in words
        ]
    body = ending.join(lines) + (ending if ended and lines else "")
    start = "\ufeff".encode(encoding) if mark and encoding != "gbk" else b""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "f").write_bytes(start + body.encode(encoding))
    seen = [read(folder, pieces, **job) for pieces in SPLITS]
    assert seen[0] == seen[1] == seen[2]
    found = sorted((row["a"], row["b"]) for _, row in seen[0])
    assert found == sorted(words)


def test_a_bad_row_in_a_block_costs_only_itself(tmp_path: Path) -> None:
    """Blocks with a fault are read carefully; the rows around it come as they would."""
    lines = [b'{"n":%d}' % i for i in range(5000)]
    lines[2500] = b"bad"
    (tmp_path / "f").write_bytes(b"\n".join(lines))
    found = read(tmp_path, fileFormat="jsonl")
    assert sum(isinstance(i[1], dict) for i in found) == 4999


def test_the_first_rows_of_csv_wait_for_two_blocks_at_most(tmp_path: Path) -> None:
    """A preview reads no more: one of which rows are made, and one that is parsed meanwhile."""
    (tmp_path / "f").write_bytes(b"1,x\n" * 1_000_000)
    reader = FileSource(
        FilesSettings.model_validate({"path": "f", "fileFormat": "csv", "column": [{"index": 0}]}),
        LocalConnection(path=str(tmp_path)),
        StepContext(step="Reader", step_type="file"),
    )
    stream = reader.read(reader.plan().splits[0])
    assert isinstance(next(stream), Change)
    stream.close()  # type: ignore[attr-defined]
    assert reader.counts.values["bytes-read"] <= 2 * BLOCK_BYTES


def test_csv_of_constants_alone_gives_each_record_once(tmp_path: Path) -> None:
    """Where the job takes no field of the file, each record is still one row with its constants."""
    (tmp_path / "f").write_bytes(b"a,b\n" * 700)
    rows = read(tmp_path, fileFormat="csv", column=[{"name": "c", "value": "v"}])
    assert [r[1] for r in rows] == [{"c": "v"}] * 700
