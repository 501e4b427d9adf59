"""Packed files, names and numbers as columns, and other things that a folder may hold."""

from __future__ import annotations

import bz2
import gzip
import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.contracts.files import PACKED, items_of
from vecferry.errors import FatalError, JobError
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.rows import Reject
from vecferry.steps import StepContext


def reader(folder: Path, split_bytes: int = 1 << 26, **job: Any) -> FileSource:
    """A reader of all files of a folder, as JSON lines by default."""
    return FileSource(
        FilesSettings.model_validate({"path": "*", "fileFormat": "jsonl", **job}),
        LocalConnection(path=str(folder)),
        StepContext(step="Reader", step_type="file"),
        split_bytes=split_bytes,
    )


def zipped(**members: str) -> bytes:
    """A zip of texts by name; two underscores stand for a dot."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return sink.getvalue()


class TestZip:
    def test_all_members_are_read_each_with_its_header(self, tmp_path: Path) -> None:
        """The origin names the member; a replay finds its header again."""
        data = zipped(a__csv="id,n\n1,2\n", b__csv="n,id\n3,x\n", _hidden="no")
        (tmp_path / "two!.zip").write_bytes(data)
        job: dict[str, Any] = {"fileFormat": "csv", "skipHeader": True}
        source = reader(tmp_path, column=[{"name": "id", "type": "long"}, "n"], **job)
        source.check()
        good, bad = items_of(source)
        assert (good, good.origin) == ({"id": 1, "n": "2"}, "two!.zip!a.csv:5")
        assert isinstance(bad, Reject)
        assert (bad.raw, bad.origin) == ("3,x", "two!.zip!b.csv:5")
        again = reader(tmp_path, column=["id", "n"], **job).reread("3,x", bad.origin)
        assert again == {"id": "x", "n": "3"}
        assert source.counts.values["bytes-read"] == len(data)

    def test_two_members_of_one_name_keep_their_rows_apart(self, tmp_path: Path) -> None:
        """The second is called by its number."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's word on the same name
            archive.writestr("a.csv", "id\n1\n")
            archive.writestr("a.csv", "id\n2\n")
        (tmp_path / "twins.zip").write_bytes(sink.getvalue())
        source = reader(tmp_path, column=["id"], fileFormat="csv", skipHeader=True)
        origins = [item.origin for item in items_of(source)]
        assert origins == ["twins.zip!a.csv:3", "twins.zip!a.csv#2:3"]

    def test_an_encrypted_zip_is_refused(self, tmp_path: Path) -> None:
        """By its name, before anything of it is read."""
        data = bytearray(zipped(a="{}"))
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(mark) + flags] |= 1
        (tmp_path / "a.zip").write_bytes(bytes(data))
        with pytest.raises(JobError, match=r"a\.zip is encrypted \(its member 'a'\)"):
            reader(tmp_path).check()

    def test_a_damaged_member_fails_the_job(self, tmp_path: Path) -> None:
        """Its checksum is wrong."""
        data = bytearray(zipped(a='{"id":1}\n' * 1000))
        data[40] ^= 0xFF
        (tmp_path / "a.zip").write_bytes(bytes(data))
        with pytest.raises(FatalError, match=r"a\.zip is not a sound zip file"):
            items_of(reader(tmp_path))

    @pytest.mark.parametrize("at", ["name", "version", "data"])
    def test_a_damaged_zip_of_any_kind_fails_by_name(self, tmp_path: Path, at: str) -> None:
        """In its directory, or in what another method than deflate has packed."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("ü", '{"id":1}\n' * 1000)
        data = bytearray(sink.getvalue())
        entry = data.index(b"PK\x01\x02")
        place = {"name": entry + 46, "version": entry + 6, "data": 60}[at]
        data[place : place + 1] = b"\xff"
        (tmp_path / "a.zip").write_bytes(bytes(data))
        with pytest.raises(FatalError, match=r"a\.zip is not a sound zip file"):
            items_of(reader(tmp_path))
        with pytest.raises(JobError, match=r"a\.zip is not a sound zip file"):
            reader(tmp_path, fileFormat="csv", skipHeader=True).check()


_PACK = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "zip": lambda data: zipped(a=data.decode()),
}


@pytest.mark.slow
@pytest.mark.parametrize("packing", _PACK)
def test_a_small_file_that_unpacks_to_a_large_one_costs_no_memory(
    tmp_path: Path, packing: str
) -> None:
    """24 MB of one character are given line by line, and a line over the limit is cut."""
    line = b'{"t":"' + b"x" * 1000 + b'"}\n'
    data = line * 12_000 + b"y" * (12 << 20) + b"\n" + line
    (tmp_path / "f").write_bytes(_PACK[packing](data))
    source = reader(tmp_path, compress=packing, maxLineBytes=100_000)
    (split,) = source.plan().splits
    n = rejected = 0
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for item in source.read(split):
            n += 1
            rejected += isinstance(item, Reject)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (n, rejected) == (12_002, 1)
    assert peak < 4 << 20
    assert pa.total_allocated_bytes() <= before


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "zstd", "zip"])
def test_a_file_that_is_not_packed_so_fails_by_name(tmp_path: Path, packing: str) -> None:
    """compress says one thing, the file another."""
    (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n' * 100)
    with pytest.raises(FatalError, match=rf"a\.jsonl is not a sound {packing} file"):
        items_of(reader(tmp_path, compress=packing))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_the_rows_before_a_cut_are_given(tmp_path: Path, ending: str) -> None:
    """Then the job fails, and says that the file was cut off."""
    data = b"".join(b'{"id":%d}\n' % i for i in range(200_000))
    packed = PACKED[ending](data)
    (tmp_path / f"a.jsonl{ending}").write_bytes(packed[: len(packed) - 100])
    source = reader(tmp_path)
    with pytest.raises(FatalError, match=r"ends in the middle of its \w+ stream"):
        items_of(source)
    assert source.counts.values["rows-read"] > 10_000


def test_an_empty_packed_file_has_no_rows(tmp_path: Path) -> None:
    """Neither a stream of nothing nor a file of nothing is an error."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "b.jsonl.bz2").write_bytes(bz2.compress(b""))
    (tmp_path / "c.zip").write_bytes(zipped())
    assert items_of(reader(tmp_path)) == []


PLACES = [{"name": "file", "from": "fileName"}, {"name": "n", "from": "lineNumber"}]


@pytest.mark.parametrize(
    ("job", "text", "numbers"),
    [
        ({"fileFormat": "jsonl"}, '{"a":"x"}\n\n[]\n{"a":"y"}\n', [1, 4]),
        ({"fileFormat": "csv", "skipHeader": True}, 'a\nx\n"y\n\nz"\nw\n', [2, 3, 6]),
        ({"fileFormat": "json"}, '[{"a":"x"},\n\n{"a":"y"}]', [1, 2]),
        ({"fileFormat": "jsonl", "maxLineBytes": 20}, f'{{"a":"{"x" * 99}"}}\n{{"a":"y"}}', [2]),
    ],
    ids=["jsonl", "csv", "json", "long line"],
)
@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_file_name_and_line_number_as_columns(
    tmp_path: Path, job: dict[str, Any], text: str, numbers: list[int], pack: bool
) -> None:
    """The line on which a record begins, from 1, header and blank lines counted; never split."""
    name = "f.gz" if pack else "f"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if pack else text.encode())
    source = reader(tmp_path, 3, **job, column=["a", *PLACES])
    assert len(source.plan().splits) == 1
    found = [i for i in items_of(source) if not isinstance(i, Reject)]
    assert [i["n"] for i in found] == numbers
    assert {i["file"] for i in found} == {name}


@pytest.mark.slow
def test_line_numbers_hold_through_many_blocks(tmp_path: Path) -> None:
    """Records of one and of several lines, in a file of some megabytes."""
    record = '"{}","x\ny"\n'
    (tmp_path / "f").write_text("".join(record.format("é" * 40 + str(i)) for i in range(20_000)))
    column = [{"index": 0, "name": "a"}, PLACES[1]]
    found = items_of(reader(tmp_path, fileFormat="csv", column=column))
    assert [i["n"] for i in found if not isinstance(i, Reject)] == list(range(1, 40_000, 2))


def test_the_file_name_alone_does_not_keep_a_file_whole(tmp_path: Path) -> None:
    """Only numbers of lines need all that comes before."""
    (tmp_path / "f").write_text('{"a":1}\n' * 10)
    source = reader(tmp_path, 16, column=["a", PLACES[0]])
    assert len(source.plan().splits) == 5
    assert items_of(source) == [{"a": 1, "file": "f"}] * 10
