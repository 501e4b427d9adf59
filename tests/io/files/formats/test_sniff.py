"""A file tells how it must be read: its packing, format, encoding, delimiter and header."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

from vecferry.errors import JobError
from vecferry.io.files.formats.sniff import HEAD_BYTES, sniff

LINES = "id,title,about\n1,Loop,A flat walk\n2,Ridge,A steep walk\n"
GZIP = gzip.compress(LINES.encode(), mtime=0)
CSV = {"fileFormat": "csv", "skipHeader": True}


def _table(kind: Any) -> bytes:
    raw = io.BytesIO()
    kind.write_table(pa.table({"id": [1, 2], "about": ["a", "b"]}), raw)
    return raw.getvalue()


def _zip(name: str, text: str) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(name, text)
    return raw.getvalue()


PROSE = b"It rained.\nWe walked, then slept, and ate.\nSun\n"
TABS = LINES.replace(",", "\t").encode()
CHINESE = "编号,标题\n1,山路很美,适合散步\n2,海边的灯塔和礁石\n3,高原上的星空很亮\n"

FILES: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "csv": ("a.csv", LINES.encode(), CSV),
    "a mark of utf-8": ("a.csv", b"\xef\xbb\xbf" + LINES.encode(), CSV),
    "windows": ("a.csv", LINES.replace("\n", "\r\n").encode(), CSV),
    "no ending": ("export", LINES.encode(), CSV),
    "semicolons": ("a.csv", LINES.replace(",", ";").encode(), {**CSV, "fieldDelimiter": ";"}),
    "pipes": ("a.txt", LINES.replace(",", "|").encode(), {**CSV, "fieldDelimiter": "|"}),
    "hive": ("000000_0", LINES.replace(",", "\1").encode(), {**CSV, "fieldDelimiter": "\1"}),
    "tabs": ("a.csv", TABS, {**CSV, "fileFormat": "tsv"}),
    "tabs and quotes": (
        "a.tsv", b'id\ttitle\n1\t"a\tb"\n2\tc\n', {**CSV, "fieldDelimiter": "\t"},
    ),
    "quoted delimiters": ("a.csv", b'id;a,b;c\n1;"x;y, z";2\n', {**CSV, "fieldDelimiter": ";"}),
    "line breaks in quotes": ("a.csv", b'id,about\n1,"one\ntwo"\n2,"three\nfour"\n', CSV),
    "no header": ("a.csv", b"1,Loop\n2,Ridge\n", {"fileFormat": "csv", "skipHeader": False}),
    "a value that comes again": (
        "a.csv", b"red,Loop\nblue,Ridge\nred,Coast\n", {"fileFormat": "csv", "skipHeader": False},
    ),
    "one column": ("a.csv", b"title\nLoop\nRidge\n", CSV),
    "a header alone": ("a.csv", b"id,title\n", CSV),
    "gb18030": ("a.csv", CHINESE.encode("gb18030"), {**CSV, "encoding": "gb18030"}),
    "json lines": ("a.jsonl", b'{"id": 1}\n{"id": 2}\n', {"fileFormat": "jsonl"}),
    "json lines, no ending": ("a", b'{"id": 1}\n{"id": 2}\n', {"fileFormat": "jsonl"}),
    "json": ("a.json", b'[{"id": 1},\n {"id": 2}]\n', {"fileFormat": "json"}),
    "lists nested too deep": ("a", b"[" * 2000 + b"]" * 2000 + b"\n", {"fileFormat": "json"}),
    "objects nested too deep": ("a", b'{"a":' * 2000 + b"\n", {"fileFormat": "json"}),
    "text": ("a.txt", PROSE, {"fileFormat": "text"}),
    "parquet": ("a.bin", _table(pyarrow.parquet), {"fileFormat": "parquet"}),
    "orc": ("a.orc", _table(pyarrow.orc), {"fileFormat": "orc"}),
    "pdf": ("a.bin", b"%PDF-1.7\n", {"fileFormat": "document"}),
    "markdown": ("a.md", b"# Tides\n\nThe tide, out.\n", {"fileFormat": "document"}),
    "gzip": ("a.csv.gz", GZIP, CSV),
    "gzip, no ending": ("a.csv", GZIP, {**CSV, "compress": "gzip"}),
    "bzip2": ("a.tsv.bz2", bz2.compress(TABS), {**CSV, "fileFormat": "tsv"}),
    "zip": ("a.zip", _zip("b.csv", LINES), CSV),
    "a record that is cut": (
        "a.csv", LINES.encode() + b"3,x,y\n" * HEAD_BYTES + b'4,"', CSV,
    ),
    "a character that is cut": ("a.csv", b"id,about\n" + "1,é\n".encode() * HEAD_BYTES, CSV),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_tells_how_it_must_be_read(case: str) -> None:
    """No parameter is left out that a reader needs, and none is said that a reader knows."""
    path, data, expected = FILES[case]
    assert sniff(path, io.BytesIO(data)) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        ("id,title\n".encode("utf-16"), "utf-16.*convert"),
        (GZIP[:25], "not a sound gzip file"),
        (gzip.compress(b"%PDF-1.7\n", mtime=0), "PDF document"),
    ],
)
def test_what_no_reader_takes_is_refused_with_a_way_out(data: bytes, words: str) -> None:
    """The error names the file and its kind."""
    with pytest.raises(JobError, match=f"a.csv: .*{words}"):
        sniff("a.csv", io.BytesIO(data))
