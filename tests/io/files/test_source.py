"""Reading files without Beam: formats, splits, origins, and what can't be read."""

from __future__ import annotations

import dataclasses
import gzip
import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.effort import tries
from vecferry.errors import FatalError, JobError
from vecferry.io.files.settings import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext


def reader(
    folder: Path, split_bytes: int = 1 << 26, step_type: str = "file", **job: Any
) -> FileSource:
    """A reader of `folder` with the parameters of a job; all `*` files as JSON lines by default."""
    parameters = {"object": "*", "fileFormat": "jsonl", **job}
    return FileSource(
        FilesSettings.model_validate(parameters),
        LocalConnection(path=str(folder)),
        StepContext(step="Reader", step_type=step_type),
        split_bytes=split_bytes,
    )


def read(source: FileSource) -> list[Change | Reject]:
    """All that the splits of a reader give."""
    return [item for split in source.plan().splits for item in source.read(split)]


def rows(source: FileSource) -> list[dict[str, Any]]:
    """The rows; a reject among them fails the test."""
    items = read(source)
    assert [i for i in items if isinstance(i, Reject)] == []
    return [dict(i) for i in items if isinstance(i, Change)]


def rejects(source: FileSource) -> list[Reject]:
    """The rejects only."""
    return [i for i in read(source) if isinstance(i, Reject)]


def summary(items: list[Change | Reject]) -> list[tuple[Any, ...]]:
    """Items as comparable values."""
    return sorted(
        (i.origin, i.reason, i.raw) if isinstance(i, Reject) else (i.origin, dict(i)) for i in items
    )


class TestJsonLines:
    def test_star_gives_all_keys_and_the_byte_where_the_line_begins(self, tmp_path: Path) -> None:
        """Rows are changes with the origin path:offset."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n{"id":2,"t":"\xc3\xa4"}\n{"id":3}')
        items = read(reader(tmp_path))
        assert [dict(i) for i in items] == [{"id": 1}, {"id": 2, "t": "ä"}, {"id": 3}]
        assert [i.origin for i in items] == ["a.jsonl:0", "a.jsonl:9", "a.jsonl:27"]
        assert {i.kind for i in items if isinstance(i, Change)} == {"+I"}

    def test_index_zero_is_the_whole_line_even_with_a_name(self, tmp_path: Path) -> None:
        """The vendor's example has name and index 0: the line as it stands is the value."""
        (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\r\n{"chunk_text": 1}\n')
        column = [{"name": "chunk_text", "index": 0, "type": "string"}]
        found = rows(reader(tmp_path, column=column))
        assert found == [{"chunk_text": '{"text": "x"}'}, {"chunk_text": '{"chunk_text": 1}'}]

    def test_names_pick_keys_and_values_are_constants(self, tmp_path: Path) -> None:
        """A key that a line lacks is null; types convert."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":"7","n":1,"o":{"a":[1]}}\n{"id":8}\n')
        column = [
            {"name": "id", "type": "long"},
            {"name": "o", "type": "string"},
            {"name": "lang", "value": "en"},
        ]
        assert rows(reader(tmp_path, column=column)) == [
            {"id": 7, "o": '{"a":[1]}', "lang": "en"},
            {"id": 8, "o": None, "lang": "en"},
        ]

    def test_bom_crlf_blank_lines_and_an_empty_file(self, tmp_path: Path) -> None:
        """None of them is a row or a reject, and blank lines are not counted."""
        (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"id":1}\r\n\r\n  \n{"id":2}\r\n')
        (tmp_path / "b.jsonl").write_bytes(b"")
        source = reader(tmp_path)
        items = read(source)
        assert [(dict(i), i.origin) for i in items] == [
            ({"id": 1}, "a.jsonl:3"),
            ({"id": 2}, "a.jsonl:18"),
        ]
        assert source.counts.values == {"rows-read": 2, "bytes-read": 28}
        assert source.plan().size.bytes == 28

    @pytest.mark.parametrize(
        ("line", "reason", "raw"),
        [
            (b"nonsense", "invalid-json", "nonsense"),
            (b'{"x": NaN}', "invalid-json", '{"x": NaN}'),
            (b'{"x": Infinity}\r', "invalid-json", '{"x": Infinity}'),
            (b'{"x": "\xff"}', "invalid-encoding", b'{"x": "\xff"}'),
            (b"[1]", "not-an-object", "[1]"),
            (b"null", "not-an-object", "null"),
        ],
        ids=["text", "nan", "infinity", "not utf-8", "array", "null"],
    )
    def test_a_bad_line_is_rejected_and_its_neighbours_are_read(
        self, tmp_path: Path, line: bytes, reason: str, raw: str | bytes
    ) -> None:
        """The reject has the raw line and where it stands; both are counted as read."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n' + line + b'\n{"id":2}\n')
        source = reader(tmp_path)
        first, bad, last = read(source)
        assert (first, last) == ({"id": 1}, {"id": 2})
        assert isinstance(bad, Reject)
        assert (bad.reason, bad.raw, bad.origin) == (reason, raw, "a.jsonl:9")
        assert "a.jsonl, byte 9" in bad.message
        assert source.counts.values["rows-read"] == 3

    def test_a_wrong_type_is_rejected_and_names_column_and_value(self, tmp_path: Path) -> None:
        """The message names the value that is wrong, and its column."""
        (tmp_path / "a.jsonl").write_bytes(b'{"n":"x1"}\n{"n":1}\n{"n":2.5}\n{"n":true}\n')
        found = rejects(reader(tmp_path, column=[{"name": "n", "type": "long"}]))
        assert [r.reason for r in found] == ["wrong-type"] * 3
        assert "column 'n': 'x1' is not a whole number" in found[0].message

    def test_other_encodings(self, tmp_path: Path) -> None:
        """gbk and gb18030 lines are decoded before they are parsed."""
        (tmp_path / "a.jsonl").write_bytes('{"t":"中文"}\n'.encode("gbk") + b'{"t":"\xff"}\n')
        good, bad = read(reader(tmp_path, encoding="GBK"))
        assert good == {"t": "中文"}
        assert isinstance(bad, Reject)
        assert bad.reason == "invalid-encoding"


class TestCsvAndText:
    def test_csv_by_index_with_types_and_nulls(self, tmp_path: Path) -> None:
        r"""Quotes, doubled quotes and line breaks in fields; \N is null."""
        (tmp_path / "a.csv").write_bytes(
            b'1,"a ""b"", c",\\N,2024-02-01\n2,"two\r\nlines",true,\\N\n\n'
        )
        column = [
            {"index": 0, "type": "long", "name": "id"},
            {"index": "1", "type": "STRING"},
            {"index": 2, "type": "boolean", "name": "ok"},
            {"index": 3, "type": "date", "format": "yyyy-MM-dd", "name": "day"},
        ]
        source = reader(tmp_path, fileFormat="csv", column=column)
        found = rows(source)
        assert [r["column_1"] for r in found] == ['a "b", c', "two\r\nlines"]
        assert [(r["id"], r["ok"]) for r in found] == [(1, None), (2, True)]
        assert found[0]["day"].isoformat() == "2024-02-01T00:00:00+00:00"
        assert source.counts.values["rows-read"] == 2

    def test_csv_by_header_names(self, tmp_path: Path) -> None:
        """The header line names the fields, in every split of a file."""
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid;text\r\n1;x\r\n2;y\r\n")
        job: dict[str, Any] = {"fileFormat": "csv", "skipHeader": "true", "fieldDelimiter": ";"}
        assert rows(reader(tmp_path, **job)) == [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]
        job |= {"column": ["text"], "csvReaderConfig": {"multiline": False}}
        source = reader(tmp_path, split_bytes=4, **job)
        assert rows(source) == [{"text": "x"}, {"text": "y"}]
        assert source.counts.values["bytes-read"] == source.plan().size.bytes

    def test_a_header_without_the_column_fails_the_check_and_the_run(self, tmp_path: Path) -> None:
        """The error names file, column and header."""
        (tmp_path / "a.csv").write_bytes(b"id,texts\n1,x\n")
        source = reader(tmp_path, fileFormat="csv", skipHeader=True, column=["text"])
        with pytest.raises(JobError, match=r"a\.csv: .*no column 'text'; did you mean 'texts'"):
            source.check()
        with pytest.raises(FatalError, match="no column 'text'"):
            read(source)

    @pytest.mark.parametrize(
        ("text", "reasons", "kept"),
        [
            ('1,"a"b\n2,ok\n', ["invalid-csv"], ["2"]),
            ('1,"open\n2,ok\n3,ok\n', ["invalid-csv"], ["2", "3"]),
            ("1\n2,ok\n", ["missing-column"], ["2"]),
        ],
        ids=["text after a quote", "open quote", "short"],
    )
    def test_a_faulty_csv_record_costs_one_line(
        self, tmp_path: Path, text: str, reasons: list[str], kept: list[str]
    ) -> None:
        """The line on which the record begins is rejected, reading goes on at the next."""
        (tmp_path / "a.csv").write_text(text)
        column = [{"index": 0, "name": "id"}, {"index": 1, "name": "t"}]
        items = read(reader(tmp_path, fileFormat="csv", column=column))
        assert [i.reason for i in items if isinstance(i, Reject)] == reasons
        assert [i["id"] for i in items if isinstance(i, Change)] == kept

    @pytest.mark.slow
    def test_an_open_quote_holds_no_more_than_the_longest_line(self, tmp_path: Path) -> None:
        """One quote too many does not swallow the rest of a large file."""
        body = b"".join(b"%d,x\n" % i for i in range(6_000))
        (tmp_path / "a.csv").write_bytes(b'0,"open\n' + body + b'9,"closed"\n')
        column = [{"index": 0, "name": "id"}, {"index": 1, "name": "t"}]
        job: dict[str, Any] = {"fileFormat": "csv", "maxLineBytes": 10_000, "column": column}
        items = read(reader(tmp_path, **job))
        assert [i.reason for i in items if isinstance(i, Reject)] == ["invalid-csv"]
        assert len(items) == 6_002

    def test_a_record_of_many_blocks_is_one_row(self, tmp_path: Path) -> None:
        """Line breaks and doubled quotes in it, and rows on both sides."""
        field = 'a "quoted" line\n' * 50_000
        quoted = field.replace('"', '""')
        (tmp_path / "a.csv").write_text(f'1,x\n2,"{quoted}"\n3,"y"\n')
        column = [{"index": 0, "name": "id"}, {"index": 1, "name": "t"}]
        found = read(reader(tmp_path, fileFormat="csv", column=column))
        assert [i.get("t") for i in found if isinstance(i, Change)] == ["x", field, "y"]
        assert [i.origin for i in found] == ["a.csv:0", "a.csv:4", f"a.csv:{9 + len(quoted)}"]

    def test_more_fields_than_header_names_are_rejected(self, tmp_path: Path) -> None:
        """A field without a name is not dropped in silence."""
        (tmp_path / "a.csv").write_text("id,t\n1,x,y\n1\n1,x\n")
        items = read(reader(tmp_path, fileFormat="csv", skipHeader=True))
        reasons = [i.reason for i in items if isinstance(i, Reject)]
        assert reasons == ["too-many-columns", "missing-column"]

    @pytest.mark.slow
    @pytest.mark.parametrize("bad", [1, 4000])
    def test_a_record_cut_at_a_delimiter_of_its_text_is_no_row(
        self, tmp_path: Path, bad: int
    ) -> None:
        """A text with a comma and no quotes would lose its end, were it taken by its name."""
        lines = ["id,t", "1,fine", *["2,one, two"] * bad, "3", "4,fine"]
        (tmp_path / "a.csv").write_text("\n".join(lines))
        how: dict[str, Any] = {"fileFormat": "csv", "skipHeader": True}
        items = read(reader(tmp_path, column=["t"], **how))
        reasons = [i.reason for i in items if isinstance(i, Reject)]
        assert reasons == ["too-many-columns"] * bad + ["missing-column"]
        assert [i["t"] for i in items if isinstance(i, Change)] == ["fine", "fine"]
        by_place = read(reader(tmp_path, column=[{"index": 0, "name": "id"}], **how))
        assert len(by_place) == bad + 3
        assert not any(isinstance(i, Reject) for i in by_place)

    def test_text_is_the_whole_line_unless_a_delimiter_is_given(self, tmp_path: Path) -> None:
        """Blank lines of a text are rows."""
        (tmp_path / "a.txt").write_bytes(b"a,b\r\n\nc,d\n")
        column = [{"index": 0, "name": "t", "type": "string"}]
        whole = reader(tmp_path, fileFormat="text", column=column)
        assert rows(whole) == [{"t": "a,b"}, {"t": ""}, {"t": "c,d"}]
        split = reader(tmp_path, fileFormat="text", column=column, fieldDelimiter=",")
        assert rows(split) == [{"t": "a"}, {"t": ""}, {"t": "c"}]

    def test_text_with_a_delimiter_of_several_characters(self, tmp_path: Path) -> None:
        """Quotes mean nothing in a text; escapes in the job name control characters."""
        (tmp_path / "a.txt").write_bytes(b'1\x01\t"x\n')
        column = [{"index": 0, "name": "id", "type": "long"}, {"index": 1, "name": "t"}]
        job: dict[str, Any] = {"fileType": "text", "fieldDelimiter": r"\u0001\t", "column": column}
        source = FileSource(
            FilesSettings.model_validate({"path": "a.txt", **job}),
            LocalConnection(path=str(tmp_path)),
            StepContext(step="Reader", step_type="hdfs"),
        )
        assert rows(source) == [{"id": 1, "t": '"x'}]


SPLITS = [1, 7, 64]
_json_line = st.one_of(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(0, 9), max_size=3).map(
        orjson.dumps
    ),
    st.sampled_from([b"", b" ", b"not json", b"\xff\xfe", b"[]", b"x" * 60]),
)
_text_line = st.text(max_size=40).map(lambda s: s.encode().replace(b"\n", b"")) | st.just(b"\xff")
_csv_line = st.lists(st.text('ab,"\r\n é', max_size=8), min_size=1, max_size=3).map(
    lambda fields: ",".join('"' + f.replace('"', '""') + '"' for f in fields).encode()
) | st.sampled_from([b"", b'a"b,c', b'"open', b'"x"y,1', b"a,b", b"\xff,1"])
_CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "jsonl": (_json_line, {"fileFormat": "jsonl", "maxLineBytes": 50}),
    "whole": (_text_line, {"fileFormat": "text", "column": [{"index": 0}]}),
    "text": (
        _text_line,
        {"fileFormat": "text", "fieldDelimiter": ",", "column": [{"index": 1}]},
    ),
    "csv": (_csv_line, {"fileFormat": "csv", "column": [{"index": 0}], "maxLineBytes": 99}),
    "flat csv": (
        _csv_line,
        {"fileFormat": "csv", "column": [{"index": 0}], "csvReaderConfig": {"multiline": False}},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", _CASES)
@tries(20, 200)
@given(data=st.data())
def test_rows_and_origins_do_not_depend_on_where_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, case: str, data: st.DataObject
) -> None:
    """1, 7 and 64 splits and gzip give the same rows, none lost or doubled."""
    line, job = _CASES[case]
    ending = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    body = ending.join(data.draw(st.lists(line, max_size=25)))
    body = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + body
    body += data.draw(st.sampled_from([b"", ending]))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "f").write_bytes(body)
    seen = []
    for pieces in SPLITS:
        source = reader(folder, split_bytes=-(-len(body) // pieces) or 1, **job)
        items = read(source)
        assert len({i.origin for i in items}) == len(items)
        assert source.counts.values.get("rows-read", 0) == len(items)
        assert source.counts.values.get("bytes-read", 0) == len(body)
        seen.append(summary(items))
    (folder / "f").write_bytes(gzip.compress(body))
    seen.append(summary(read(reader(folder, compress="gzip", **job))))
    assert all(one == seen[0] for one in seen)


@pytest.mark.slow
@tries(40, 400)
@given(
    texts=st.lists(st.text("ab \"\\'{}", max_size=30), max_size=30),
    split_bytes=st.integers(1, 200),
)
@example(texts=["a" * 30] * 3, split_bytes=1)
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], split_bytes: int
) -> None:
    """Every record of a file comes once, whole, in its order."""
    folder = tmp_path_factory.mktemp("back")
    (folder / "f").write_bytes(b"".join(orjson.dumps({"t": t}) + b"\n" for t in texts))
    assert [r["t"] for r in rows(reader(folder, split_bytes=split_bytes))] == texts


class TestLongLines:
    def test_a_line_over_the_limit_is_rejected_and_not_held(self, tmp_path: Path) -> None:
        """100 MB without a line break cost a reject, not memory; the next line is read."""
        with (tmp_path / "a.jsonl").open("wb") as f:
            f.write(b'{"id":1}\n{"t":"')
            for _ in range(100):
                f.write(b"x" * 1_000_000)
            f.write(b'"}\n{"id":2}\n')
        source = reader(tmp_path, maxLineBytes=1 << 20)
        tracemalloc.start()
        try:
            first, long, last = read(source)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (first, last) == ({"id": 1}, {"id": 2})
        assert isinstance(long, Reject)
        assert (long.reason, long.origin) == ("line-too-long", "a.jsonl:9")
        assert str(long.raw).startswith('{"t":"xxx')
        assert len(str(long.raw)) < 2000
        assert "maxLineBytes (1048576)" in long.message
        assert peak < 5 << 20

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        """20 MB of short lines are read in less than 2 MB."""
        (tmp_path / "a.jsonl").write_bytes(b'{"t":"%s"}\n' % (b"x" * 200) * 100_000)
        source = reader(tmp_path)
        (split,) = source.plan().splits
        tracemalloc.start()
        try:
            n = sum(1 for _ in source.read(split))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert n == 100_000
        assert peak < 2 << 20

    def test_many_splits_within_one_long_line_give_it_once(self, tmp_path: Path) -> None:
        """Only the split in which the line begins reports it."""
        (tmp_path / "a.jsonl").write_bytes(b"x" * 5000 + b'\n{"id":2}\n')
        found = read(reader(tmp_path, split_bytes=100, maxLineBytes=1000))
        assert [i.origin for i in found] == ["a.jsonl:0", "a.jsonl:5001"]


class TestGzip:
    def test_gzip_is_one_split_with_offsets_in_the_uncompressed_stream(
        self, tmp_path: Path
    ) -> None:
        """The ending .gz is enough; bytes read are those of the file as stored."""
        lines = [b'{"id":%d}\n' % i for i in range(5000)]
        (tmp_path / "a.jsonl.gz").write_bytes(
            gzip.compress(b"".join(lines[:10])) + gzip.compress(b"".join(lines[10:]))
        )
        source = reader(tmp_path, split_bytes=100)
        assert len(source.plan().splits) == 1
        items = read(source)
        assert [dict(i)["id"] for i in items if isinstance(i, Change)] == list(range(5000))
        assert items[4999].origin == f"a.jsonl.gz:{len(b''.join(lines)) - len(lines[-1])}"
        assert source.counts.values["bytes-read"] == source.plan().size.bytes

    def test_a_header_in_a_gzip_file(self, tmp_path: Path) -> None:
        """skipHeader also works in compressed files."""
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,t\n1,x\n"))
        assert rows(reader(tmp_path, fileFormat="csv", skipHeader=True)) == [{"id": "1", "t": "x"}]

    def test_a_truncated_file_gives_its_rows_and_then_fails(self, tmp_path: Path) -> None:
        """What is there is read; what is missing is not passed over in silence."""
        data = os.urandom(200_000).hex().encode()
        whole = b"".join(b'{"t":"%s"}\n' % data[i : i + 1000] for i in range(0, len(data), 1000))
        cut = gzip.compress(whole)[:-60_000]
        (tmp_path / "a.jsonl.gz").write_bytes(cut)
        left = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
        source = reader(tmp_path)
        found: list[Any] = []

        def collect() -> None:
            for split in source.plan().splits:
                found.extend(source.read(split))

        with pytest.raises(FatalError, match=r"a\.jsonl\.gz ends in the middle of its gzip"):
            collect()
        assert len(found) == left > 200
        assert source.counts.values["rows-read"] == len(found)

    def test_a_file_that_is_no_gzip_fails_with_its_name(self, tmp_path: Path) -> None:
        """compress says gzip, the file says otherwise."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n')
        with pytest.raises(FatalError, match=r"a\.jsonl is not a sound gzip file"):
            read(reader(tmp_path, compress="gzip"))


class TestFailures:
    def test_a_file_that_vanishes_fails_the_job(self, tmp_path: Path) -> None:
        """The error names the file and what to do."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n')
        source = reader(tmp_path)
        (split,) = source.plan().splits
        (tmp_path / "a.jsonl").unlink()
        with pytest.raises(FatalError, match=r"a\.jsonl vanished since it was listed"):
            list(source.read(split))

    @pytest.mark.parametrize("when", ["before", "during"])
    def test_a_file_that_changes_fails_the_job(self, tmp_path: Path, when: str) -> None:
        """Size or time of change differ: rows could be lost or doubled."""
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"id":1}\n' * 10)
        source = reader(tmp_path)
        (split,) = source.plan().splits
        if when == "before":
            path.write_bytes(b'{"id":1}\n' * 11)
        stream = source.read(split)
        if when == "during":
            next(stream)
            os.utime(path, (1, 1))
        with pytest.raises(FatalError, match=r"a\.jsonl changed since it was listed"):
            list(stream)

    def test_a_consumer_that_stops_early_has_its_rows_counted(self, tmp_path: Path) -> None:
        """rows-read is what was handed out."""
        (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n' * 1000)
        source = reader(tmp_path)
        stream = source.read(source.plan().splits[0])
        for _ in range(300):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert source.counts.values["rows-read"] == 300


class TestReread:
    def test_a_rejected_record_is_read_again(self, tmp_path: Path) -> None:
        """With the job mended, the raw text gives the row under its old origin."""
        (tmp_path / "a.csv").write_bytes(b'id,n\n1,"x\n2"\n')
        job: dict[str, Any] = {"fileFormat": "csv", "skipHeader": True}
        column = [{"name": "id"}, {"name": "n", "type": "long"}]
        (bad,) = rejects(reader(tmp_path, column=column, **job))
        assert (bad.reason, bad.raw) == ("wrong-type", '1,"x\n2"')
        assert bad.raw is not None
        again = reader(tmp_path, column=column, **job).reread(bad.raw, bad.origin)
        assert isinstance(again, Reject)
        mended = reader(tmp_path, column=["id", "n"], **job).reread(bad.raw, bad.origin)
        assert (mended, mended.origin) == ({"id": "1", "n": "x\n2"}, "a.csv:5")

    def test_bytes_are_read_again_in_another_encoding(self, tmp_path: Path) -> None:
        """An invalid-encoding reject keeps its bytes."""
        (tmp_path / "a.jsonl").write_bytes('{"t":"中文"}'.encode("gbk"))
        (bad,) = rejects(reader(tmp_path))
        assert bad.raw is not None
        assert reader(tmp_path, encoding="gbk").reread(bad.raw, bad.origin) == {"t": "中文"}

    def test_a_line_that_was_cut_is_never_taken_for_a_row(self, tmp_path: Path) -> None:
        """Its raw text is not the whole line, so a replay rejects it again."""
        (tmp_path / "a.txt").write_bytes(b"x" * 3000)
        job: dict[str, Any] = {"fileFormat": "text", "column": [{"index": 0}]}
        (bad,) = rejects(reader(tmp_path, maxLineBytes=2000, **job))
        assert bad.raw is not None
        again = reader(tmp_path, **job).reread(bad.raw, bad.origin)
        assert isinstance(again, Reject)
        assert (again.reason, again.origin) == ("line-too-long", "a.txt:0")


def test_a_source_for_several_processes_has_splits_for_each(tmp_path: Path) -> None:
    """Sixteen for each process, of a megabyte at least; together they are the file."""
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 4_000_000)
    source = reader(tmp_path)
    found = []
    for readers in (1, 2, 50):
        read = dataclasses.replace(source.context.read, readers=readers)
        source.context = dataclasses.replace(source.context, read=read)
        splits = source.plan().splits
        assert [s.start for s in splits[1:]] == [s.end for s in splits[:-1]]
        assert (splits[0].start, splits[-1].end) == (0, 36_000_000)
        found.append(len(splits))
    assert found == [1, 32, 35]
