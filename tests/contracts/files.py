"""What the file reader shows on every store: each format and compression, in any split.

A store's tests inherit `FormatCases` and give a fixture `place`, a `Place`. Nothing needs to be
cleared between tests, as each writes into a folder of its own.
"""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecferry.errors import FatalError, JobError
from vecferry.io.files import FilesSettings
from vecferry.io.files.connections import FileConnection
from vecferry.io.files.source import FileSource
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

ROWS = 150
SPLITS = (1, 7, 64)
COLUMNS = [{"name": "id", "type": "long"}, {"name": "title"}, {"name": "n", "type": "long"}]
BAD = {7, 70, 149}
"""In these rows `n` is a text that is not a number."""


@dataclass(frozen=True)
class Place:
    """A store under test.

    `put` writes a file over what was there, `delete` takes one away. Both take the path within the
    data source's folder; its parents need not exist.
    """

    connection: FileConnection
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]
    step_type: str = "file"

    def reader(self, pattern: str, split_bytes: int = 64 << 20, **job: Any) -> FileSource:
        """A reader of `pattern` with the parameters of a job."""
        return FileSource(
            FilesSettings.model_validate({"path": pattern, **job}),
            self.connection,
            StepContext(step="Reader", step_type=self.step_type),
            split_bytes=split_bytes,
        )

    def folder(self) -> str:
        """The name of a folder that is not there yet."""
        return f"t{uuid.uuid4().hex[:12]}"


def table() -> list[dict[str, str]]:
    """The rows, as texts."""
    return [
        {
            "id": str(i),
            "title": f'Weg {i}, "über" 中文' if i % 3 else f"plain {i}",
            "n": "none" if i in BAD else str(i * i),
        }
        for i in range(ROWS)
    ]


def _jsonl() -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\r\n" for r in table())


def _csv(encoding: str = "utf-8") -> bytes:
    quoted = ('"{}"'.format(r["title"].replace('"', '""')) for r in table())
    lines = [f"{r['id']},{q},{r['n']}" for r, q in zip(table(), quoted, strict=True)]
    return "\n".join(["id,title,n", *lines]).encode(encoding)


def _tsv() -> bytes:
    lines = ["\t".join(r.values()) for r in table()]
    return "\n".join(["id\ttitle\tn", *lines]).encode()


def _json() -> bytes:
    return b"\xef\xbb\xbf" + json.dumps(table(), indent=1).encode()


def _arrow() -> pa.Table:
    return pa.Table.from_pylist([{**r, "id": int(r["id"]), "more": [1, 2]} for r in table()])


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(_arrow(), sink, row_group_size=11)
    return sink.getvalue()


def _orc() -> bytes:
    from pyarrow import orc

    sink = io.BytesIO()
    orc.write_table(_arrow(), sink, stripe_size=1, batch_size=16)
    return sink.getvalue()


def _text() -> bytes:
    lines = [f"{r['id']}|{r['title']}|{r['n']}" for r in table()]
    return "\n".join(["id|title|n", *lines, ""]).encode("gbk")


@dataclass(frozen=True)
class Case:
    """A file of the table: its name, what a job says of it, and its bytes."""

    name: str
    make: Callable[[], bytes]
    job: dict[str, Any] = field(default_factory=dict)
    text: bool = True

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the step, but for the path."""
        return {"fileFormat": self.name.rpartition(".")[2], "column": COLUMNS, **self.job}


FLAT = {"skipHeader": True, "csvReaderConfig": {"multiline": False}}
FORMATS = [
    Case("a.jsonl", _jsonl),
    Case("a.csv", _csv, {"skipHeader": True}),
    Case("flat.csv", _csv, FLAT),
    Case("a.tsv", _tsv, {"skipHeader": True}),
    Case("gb18030.csv", lambda: _csv("gb18030"), {**FLAT, "encoding": "gb18030"}),
    Case("a.json", _json),
    Case("a.parquet", _parquet, text=False),
    Case("a.orc", _orc, text=False),
    Case("gbk.text", _text, {"skipHeader": True, "fieldDelimiter": "|", "encoding": "gbk"}),
]


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data[:999]) + gzip.compress(data[999:])


def _bzip2(data: bytes) -> bytes:
    return bz2.compress(data[:999]) + bz2.compress(data[999:])


def _zstd(data: bytes) -> bytes:
    codec = pa.Codec("zstd")
    parts = (codec.compress(part, asbytes=True) for part in (data[:999], data[999:]))
    return b"".join(parts)


def _zip(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._member", b"not this one")
        archive.writestr("folder/member", data)
    return sink.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".zst": _zstd,
    ".zip": _zip,
}


def items_of(source: FileSource) -> list[Change | Reject]:
    """All that the splits of a reader give."""
    return [item for split in source.plan().splits for item in source.read(split)]


def shown(items: list[Change | Reject]) -> list[tuple[Any, ...]]:
    """Items as comparable values, by origin."""
    return sorted(
        (i.origin, i.reason, i.raw) if isinstance(i, Reject) else (i.origin, dict(i)) for i in items
    )


def expect_table(items: list[Change | Reject]) -> None:
    """Asserts that all rows are there once, in order, and the bad ones rejected in their place."""
    assert len({i.origin for i in items}) == len(items) == ROWS
    for i, (item, row) in enumerate(zip(items, table(), strict=True)):
        if i in BAD:
            assert isinstance(item, Reject)
            assert item.reason == "wrong-type"
            assert "'none' is not a whole number" in item.message
        else:
            assert item == {"id": i, "title": row["title"], "n": i * i}


def _by_name(case: Case) -> str:
    return case.name


class FormatCases:
    """The claims; inherit, and give the fixture `place`."""

    @pytest.mark.parametrize("case", FORMATS, ids=_by_name)
    def test_any_split_gives_the_same_rows_origins_and_rejects(
        self, place: Place, case: Case
    ) -> None:
        """One, seven and 64 splits; counts add up, to the byte."""
        folder, data = place.folder(), case.make()
        path = f"{folder}/{case.name}"
        place.put(path, data)
        seen = []
        for pieces in SPLITS:
            source = place.reader(path, -(-len(data) // pieces), **case.parameters)
            items = items_of(source)
            expect_table(items)
            assert source.plan().size.bytes == len(data)
            assert source.counts.values == {"rows-read": ROWS, "bytes-read": len(data)}
            assert all(i.origin.startswith(f"{path}:") for i in items)
            seen.append(shown(items))
        assert seen[0] == seen[1] == seen[2]

    @pytest.mark.parametrize("ending", PACKED)
    @pytest.mark.parametrize("case", [c for c in FORMATS if c.text], ids=_by_name)
    def test_packed_files_give_the_same_rows(self, place: Place, case: Case, ending: str) -> None:
        """By their ending; bytes read are those of the file as it is stored."""
        path = f"{place.folder()}/{case.name}{ending}"
        data = PACKED[ending](case.make())
        place.put(path, data)
        source = place.reader(path, 500, **case.parameters)
        items = items_of(source)
        expect_table(items)
        within = f"{path}!folder/member" if ending == ".zip" else path
        assert {i.origin.rpartition(":")[0] for i in items} == {within}
        assert source.counts.values["bytes-read"] == len(data)

    @pytest.mark.parametrize("case", FORMATS, ids=_by_name)
    def test_rejects_are_read_again_by_their_raw_text(self, place: Place, case: Case) -> None:
        """A replay gives the row under its old origin, with the job mended."""
        path = f"{place.folder()}/{case.name}"
        place.put(path, case.make())
        items = items_of(place.reader(path, **case.parameters))
        rejects = [i for i in items if isinstance(i, Reject)]
        column = [{"name": "id", "type": "string"}, "title", "n"]
        mended = place.reader(path, **{**case.parameters, "column": column})
        for reject, i in zip(rejects, sorted(BAD), strict=True):
            assert reject.raw is not None
            again = mended.reread(reject.raw, reject.origin)
            assert (again, again.origin) == (table()[i], reject.origin)

    def test_a_document_is_a_row(self, place: Place) -> None:
        """Its size and its time of change are those of the store; one that is bad is rejected."""
        folder, page = place.folder(), b"# Tides\n\nThe tide is out.\n"
        place.put(f"{folder}/x/a.md", page)
        place.put(f"{folder}/b.md", b"")
        source = place.reader(f"{folder}/**", fileFormat="document")
        reject, row = items_of(source)
        assert isinstance(reject, Reject)
        assert (reject.reason, reject.origin) == ("empty-document", f"{folder}/b.md")
        assert isinstance(row, Change)
        modified = datetime.datetime.fromisoformat(row.pop("modified"))
        assert abs((datetime.datetime.now(datetime.UTC) - modified).total_seconds()) < 3600
        path = f"{folder}/x/a.md"
        assert row == {
            "path": path, "text": page.decode(), "title": "Tides", "type": "markdown",
            "page": None, "size": len(page),
        }  # fmt: skip
        assert source.counts.values == {"rows-read": 2, "bytes-read": len(page)}
        place.put(f"{folder}/b.md", page)
        assert reject.raw is not None
        assert source.reread(reject.raw, reject.origin)["text"] == page.decode()  # type: ignore[index]

    def test_patterns_find_files_in_folders(self, place: Place) -> None:
        """`*` and `?` stay within a name, `**` takes folders; each file is read once."""
        folder = place.folder()
        for name in ("a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl", "_SUCCESS", "e.csv"):
            place.put(f"{folder}/{name}", json.dumps({"name": name}).encode() + b"\n")
        for pattern, names in (
            ("*.jsonl", ["a.jsonl", "b.jsonl"]),
            ("?.jsonl", ["a.jsonl", "b.jsonl"]),
            ("**/*.jsonl", ["a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl"]),
            ("x/*", ["x/c.jsonl"]),
            ("x", ["x/c.jsonl"]),
        ):
            items = items_of(place.reader(f"{folder}/{pattern}", fileFormat="jsonl"))
            assert [dict(i)["name"] for i in items if isinstance(i, Change)] == names
        twice = [f"{folder}/a*", f"{folder}/?.jsonl"]
        both = FilesSettings.model_validate({"path": twice, "fileFormat": "jsonl"})
        source = place.reader(f"{folder}/*", fileFormat="jsonl")
        source.settings = both
        assert len(items_of(source)) == 2

    def test_no_file_is_an_error(self, place: Place) -> None:
        """The pattern is named."""
        source = place.reader(f"{place.folder()}/*.jsonl", fileFormat="jsonl")
        with pytest.raises(JobError, match=r"no file matches"):
            source.plan()

    def test_no_file_is_no_error_where_the_job_says_so(self, place: Place) -> None:
        """With successOnNoFile there is not a row; a file that is there is read."""
        folder = place.folder()
        source = place.reader(f"{folder}/*", fileFormat="jsonl", successOnNoFile=True)
        source.check()
        assert (source.plan().splits, source.plan().size.bytes) == ([], 0)
        place.put(f"{folder}/a.jsonl", b"{}")
        source = place.reader(f"{folder}/*", fileFormat="jsonl", successOnNoFile=True)
        assert items_of(source) == [{}]

    def test_a_path_that_leads_out_is_refused(self, place: Place) -> None:
        """`../` never leaves the data source's folder."""
        source = place.reader("a/../../b.jsonl", fileFormat="jsonl")
        with pytest.raises(JobError, match="leads out of"):
            source.plan()

    @pytest.mark.parametrize("case", FORMATS, ids=_by_name)
    def test_a_file_that_vanishes_or_changes_fails_the_job(self, place: Place, case: Case) -> None:
        """Between listing and reading; the error names the file."""
        path, data = f"{place.folder()}/{case.name}", case.make()
        place.put(path, data)
        source = place.reader(path, **case.parameters)
        (split,) = source.plan().splits
        place.put(path, data + b" ")
        with pytest.raises(FatalError, match=f"{case.name} changed since it was listed"):
            list(source.read(split))
        place.delete(path)
        with pytest.raises(FatalError, match=f"{case.name} vanished since it was listed"):
            list(source.read(split))

    @pytest.mark.parametrize("ending", PACKED)
    def test_a_packed_file_that_was_cut_off_fails_the_job(self, place: Place, ending: str) -> None:
        """What is missing is not passed over in silence; the file is named."""
        path = f"{place.folder()}/a.jsonl{ending}"
        place.put(path, PACKED[ending](_jsonl())[:-30])
        with pytest.raises((FatalError, JobError), match=f"a.jsonl{ending}"):
            items_of(place.reader(path, fileFormat="jsonl"))

    def test_an_empty_file_has_no_rows(self, place: Place) -> None:
        """Nor is it an error."""
        folder = place.folder()
        place.put(f"{folder}/a.jsonl", b"")
        place.put(f"{folder}/b.jsonl", b'{"id":1}\n')
        source = place.reader(f"{folder}/*", fileFormat="jsonl")
        assert items_of(source) == [{"id": 1}]
        assert source.counts.values["bytes-read"] == 9

    def test_the_first_rows_are_read_without_the_rest(self, place: Place) -> None:
        """A preview of a file of 3 MB takes a few blocks of it, not all."""
        path = f"{place.folder()}/a.jsonl"
        place.put(path, b'{"t":"%s"}\n' % (b"x" * 1000) * 3000)
        source = place.reader(path, fileFormat="jsonl")
        stream = source.read(source.plan().splits[0])
        assert len(next(stream)) == 1
        stream.close()  # type: ignore[attr-defined]
        assert source.counts.values["bytes-read"] < 1 << 20
