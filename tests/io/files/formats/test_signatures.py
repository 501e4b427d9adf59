"""What a file is: files of another kind are refused by name, before any line is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from tests.io.files.test_source import read, reader, rejects, rows
from vecferry.errors import FatalError, JobError
from vecferry.rows import Change, Reject

LINES = b'{"id": 1, "text": "x"}\n' * 30


def _tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("a.jsonl")
        info.size = len(LINES)
        archive.addfile(info, io.BytesIO(LINES))
    return sink.getvalue()


def _zip(name: str = "a.jsonl") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, LINES)
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2]}), sink)
    return sink.getvalue()


def _orc() -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(pa.table({"id": [1, 2]}), sink)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, pa.schema([("id", pa.int64())])) as file:
        file.write_table(pa.table({"id": [1, 2]}))
    return sink.getvalue()


def _sqlite() -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (id int)")
        return bytes(database.serialize())


EPUB = b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zip" + bytes(99)
KINDS: dict[str, tuple[bytes, str, str]] = {
    "gzip": (gzip.compress(LINES), "a gzip file", "set compress to gzip"),
    "bzip2": (bz2.compress(LINES), "a bzip2 file", "set compress to bzip2"),
    "zip": (_zip(), "a zip file", "set compress to zip"),
    "zstd": (bytes(pa.Codec("zstd").compress(LINES)), "a zstd file", "set compress to zstd"),
    "xz": (lzma.compress(LINES), "an xz file", "unpack the file"),
    "lz4": (bytes(pa.Codec("lz4").compress(LINES)), "an lz4 file", "unpack the file"),
    "snappy": (b"\xff\x06\0\0sNaPpY" + LINES, "a snappy file", "unpack the file"),
    "hadoop snappy": (b"\x82SNAPPY\0\0\0\0\1" + LINES, "a snappy file", "unpack the file"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30), "a 7z archive", "unpack the file"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(30), "a rar archive", "unpack the file"),
    "tar": (_tar(), "a tar archive", "unpack the file"),
    "parquet": (_parquet(), "a parquet file", "set fileFormat to parquet"),
    "orc": (_orc(), "an orc file", "set fileFormat to orc"),
    "avro": (b"Obj\x01\x04\x14avro.codec\x08null", "an avro file", "parquet or jsonl"),
    "arrow": (_arrow(), "an Arrow file", "convert the file to parquet"),
    "sequence": (b"SEQ\x06\x19org.apache.hadoop.io.Text", "a Hadoop sequence file", "export"),
    "xlsx": (_zip("xl/workbook.xml"), "an Excel workbook", "fileFormat to document, or export the"),
    "docx": (_zip("[Content_Types].xml"), "an Office document", "set fileFormat to document"),
    "epub": (EPUB, "an EPUB book", "set fileFormat to document"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "an Excel workbook", "export"),
    "sqlite": (_sqlite(), "an SQLite database", "export the file"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document", "set fileFormat to document"),
    "utf-16": ("id,text\n1,中文\n".encode("utf-16"), "utf-16 text", "convert the file to utf-8"),
    "utf-16be": (b"\xfe\xff" + "1,中\n".encode("utf-16-be"), "utf-16 text", "convert"),
    "utf-16, no mark": ("id,text\n1,中文\n".encode("utf-16-le"), "utf-16 text", "convert"),
    "utf-32": ("id,text\n1,中文\n".encode("utf-32"), "utf-32 text", "convert the file"),
}


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "tsv", "text", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_refused_by_name(
    tmp_path: Path, kind: str, file_format: str
) -> None:
    """Preflight and the run name the kind and the way out; no row is rejected."""
    data, name, advice = KINDS[kind]
    (tmp_path / "in.dat").write_bytes(data)
    column: list[Any] = [] if "json" in file_format else [{"index": 0}]
    source = reader(tmp_path, fileFormat=file_format, column=column or "*")
    with pytest.raises(JobError, match=f"in.dat is {name}.*{advice}"):
        source.check()
    with pytest.raises(FatalError, match=f"in.dat is {name}.*{advice}"):
        read(source)


@pytest.mark.parametrize("kind", ["tar", "gzip", "parquet", "utf-16", "xz"])
@pytest.mark.parametrize("file_format", ["jsonl", "json"])
def test_what_a_packed_file_holds_is_looked_at_too(
    tmp_path: Path, kind: str, file_format: str
) -> None:
    """A .tar.gz is told as a tar archive within gzip."""
    data, name, _ = KINDS[kind]
    (tmp_path / "in.gz").write_bytes(gzip.compress(data))
    source = reader(tmp_path, fileFormat=file_format)
    with pytest.raises(JobError, match=f"holds {name} within its gzip; unpack the file first"):
        source.check()


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "zip", "zstd"])
@pytest.mark.parametrize(("kind", "advice"), [("gzip", "gzip"), ("zstd", "zstd"), ("tar", "none")])
def test_another_packing_is_told(tmp_path: Path, packing: str, kind: str, advice: str) -> None:
    """compress says one thing, the file is another: the error says what to set."""
    if kind == packing:
        return
    (tmp_path / "in.dat").write_bytes(KINDS[kind][0])
    source = reader(tmp_path, compress=packing)
    with pytest.raises(JobError, match=f"it is {KINDS[kind][1]}; set compress to {advice}"):
        source.check()


@pytest.mark.parametrize("kind", ["gzip", "orc", "avro", "xz", "utf-16", "zip"])
def test_a_parquet_job_over_another_file_says_what_the_file_is(tmp_path: Path, kind: str) -> None:
    """The name of the kind stands in the error in place of the library's words."""
    (tmp_path / "in.dat").write_bytes(KINDS[kind][0])
    with pytest.raises(JobError, match=f"not a sound parquet file: it is {KINDS[kind][1]}"):
        reader(tmp_path, fileFormat="parquet").check()


@pytest.mark.parametrize(
    "text",
    [
        b"ORCHID,PARK\n1,2\n",
        b"PAR1,PAR2\n1,2\n",
        b"SEQUENCE\n1\n",
        b"BZh9,a\n",
        b"PK,b\n",
        b"Rar!,x\n",
        b"\xef\xbb\xbfid,text\n",
        b"(\xc2\xb5)\n",
    ],
)
@pytest.mark.parametrize("file_format", ["csv", "text"])
def test_text_that_begins_like_a_mark_is_text(
    tmp_path: Path, text: bytes, file_format: str
) -> None:
    """Marks that are made of letters count only with a control character near."""
    (tmp_path / "in.dat").write_bytes(text)
    found = rows(reader(tmp_path, fileFormat=file_format, column=[{"index": 0}]))
    assert len(found) == text.count(b"\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[{"id": 1}, {"id": 2}]', "is a JSON array.*set fileFormat to json"),
        (b'[\n{"id": 1},\n{"id": 2}\n]\n', "is a JSON array.*set fileFormat to json"),
        (b'\n  [ {"id": 1},\n {"id": 2}]\n', "is a JSON array.*set fileFormat to json"),
        (b'{\n  "id": 1\n}\n', "over several lines.*a line of its own"),
        (b'{\r\n  "id": 1\r\n}\r\n{\r\n"id": 2}', "over several lines.*a line of its own"),
        (b'{"id": 1,\n "text": "x"}\n', "over several lines.*a line of its own"),
        (b'\xef\xbb\xbf{\n\t"id": 1}\n', "over several lines.*a line of its own"),
    ],
)
def test_a_json_document_is_not_taken_for_json_lines(
    tmp_path: Path, data: bytes, words: str
) -> None:
    """Arrays and pretty-printed objects are refused, plain and packed."""
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    for name in ("a.jsonl", "b.jsonl.gz"):
        with pytest.raises(JobError, match=words):
            reader(tmp_path, object=name).check()
        with pytest.raises(FatalError, match=words):
            read(reader(tmp_path, object=name))


def test_arrays_are_lines_where_lines_are_taken_whole(tmp_path: Path) -> None:
    """A job for json-extracting takes any JSON a line, and still no document."""
    whole = [{"name": "line", "index": 0}]
    (tmp_path / "a.jsonl").write_bytes(b'[1, 2]\n[{"a": 1}]\n')
    assert [r["line"] for r in rows(reader(tmp_path, column=whole))] == ["[1, 2]", '[{"a": 1}]']
    (tmp_path / "a.jsonl").write_bytes(b'[\n  {"a": 1}\n]\n')
    with pytest.raises(FatalError, match="is a JSON array"):
        read(reader(tmp_path, column=whole))


@pytest.mark.parametrize("splits", [7, 1 << 26])
@pytest.mark.parametrize(
    ("file_format", "data"),
    [
        ("csv", b"id,text\r1,oats\r2,rye\r"),
        ("csv", b"\xef\xbb\xbfid,text\r1,oats\r2,rye"),
        ("tsv", b"id\ttext\r1\toats\r2\trye\r"),
        ("text", b"id,text\r1,oats\r2,rye\r"),
        ("jsonl", b'{"id":"1","text":"oats"}\r{"id":"2","text":"rye"}\r'),
    ],
)
def test_a_carriage_return_alone_ends_a_line(
    tmp_path: Path, file_format: str, data: bytes, splits: int
) -> None:
    """As old exports of Excel write; the rows are the same in any split, and so are numbers."""
    (tmp_path / "a").write_bytes(data)
    header = {} if file_format == "jsonl" else {"skipHeader": True}
    config = {"csvReaderConfig": {"multiline": False}}
    job = {"fileFormat": file_format, "column": ["id", "text"], **header, **config}
    found = rows(reader(tmp_path, splits, **job))
    assert found == [{"id": "1", "text": "oats"}, {"id": "2", "text": "rye"}]
    number = {"name": "n", "from": "lineNumber"}
    numbered = rows(reader(tmp_path, **{**job, "column": ["id", number]}))
    first = 1 if file_format == "jsonl" else 2
    assert [r["n"] for r in numbered] == [first, first + 1]


@pytest.mark.parametrize(
    ("file_format", "line"),
    [("csv", b"1,a\rb"), ("tsv", b"1\ta\rb"), ("text", b"1,a\rb"), ("csv", b'"1",a\rb')],
)
def test_a_carriage_return_within_a_line_is_refused(
    tmp_path: Path, file_format: str, line: bytes
) -> None:
    """Where lines end with line feeds, nobody knows whether the return ends a record."""
    good = line.replace(b"\r", b"")
    (tmp_path / "a").write_bytes(good + b"\n" + line + b"\n" + good + b"\r\n")
    for column in ([{"index": 0}], [{"index": 0}, {"index": 1}]):
        delimiter = {} if file_format == "tsv" else {"fieldDelimiter": ","}
        items = read(reader(tmp_path, fileFormat=file_format, column=column, **delimiter))
        assert [type(i) for i in items] == [Change, Reject, Change]
        assert "carriage return" in items[1].message
    (tmp_path / "a").write_bytes(b'1,"a\rb"\n')
    if file_format == "csv":
        assert rows(reader(tmp_path, fileFormat="csv", column=[{"index": 1, "name": "t"}])) == [
            {"t": "a\rb"}
        ]


@pytest.mark.parametrize("file_format", ["csv", "tsv", "text", "jsonl", "whole"])
def test_a_byte_order_mark_within_a_file_is_refused(tmp_path: Path, file_format: str) -> None:
    """Two files put together: the record behind the mark is rejected by name, the rest read."""
    line = b'{"id": 1}\n' if file_format == "jsonl" else b"a\n"
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + line + b"\xef\xbb\xbf" + line + line)
    kind = "text" if file_format == "whole" else file_format
    job: dict[str, Any] = {"fileFormat": kind, "column": "*"}
    if file_format != "jsonl":
        job["column"] = (
            [{"index": 0}] if file_format == "whole" else [{"index": 0, "type": "STRING"}]
        )
    if file_format == "text":
        job["fieldDelimiter"] = ","
    items = read(reader(tmp_path, **job))
    assert [getattr(i, "reason", "") for i in items] == ["", "byte-order-mark", ""]
    assert rejects(reader(tmp_path, **job))[0].origin == f"a:{3 + len(line)}"
