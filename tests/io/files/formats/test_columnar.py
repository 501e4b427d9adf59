"""Parquet and orc files, and json documents: types, columns, what can't be read."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from tests.contracts.files import items_of
from vecferry.errors import FatalError, JobError
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.formats.orc import TELLS_OVERFLOW
from vecferry.io.files.formats.parquet import ParquetTable
from vecferry.io.files.source import FileSource
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext


def reader(
    folder: Path, kind: str = "parquet", split_bytes: int = 1 << 26, **job: Any
) -> FileSource:
    """A reader of all files of a folder."""
    return FileSource(
        FilesSettings.model_validate({"path": "*", "fileFormat": kind, **job}),
        LocalConnection(path=str(folder)),
        StepContext(step="Reader", step_type="file"),
        split_bytes=split_bytes,
    )


def rows(source: FileSource) -> list[Any]:
    """The rows; a reject among them fails the test."""
    items = items_of(source)
    assert [i for i in items if isinstance(i, Reject)] == []
    return items


def rejects(source: FileSource) -> list[Reject]:
    """The rejects only."""
    return [i for i in items_of(source) if isinstance(i, Reject)]


NOON = datetime.datetime(2024, 2, 1, 12, 0, 0, 5)
UTC_NOON = NOON.replace(tzinfo=datetime.UTC)
DAY = datetime.datetime(2024, 2, 1, tzinfo=datetime.UTC)
_TYPES: dict[str, tuple[pa.Array, Any]] = {
    "int8": (pa.array([1], pa.int8()), 1),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "float16": (pa.array(np.array([1.5], np.float16)), 1.5),
    "float": (pa.array([1.5], pa.float32()), 1.5),
    "bool": (pa.array([True]), True),
    "string": (pa.array(["ä"]), "ä"),
    "large string": (pa.array(["ä"], pa.large_string()), "ä"),
    "bytes": (pa.array([b"\xff"]), b"\xff"),
    "decimal": (pa.array([decimal.Decimal("1.20")], pa.decimal128(9, 2)), decimal.Decimal("1.20")),
    "date": (pa.array([datetime.date(2024, 2, 1)]), datetime.date(2024, 2, 1)),
    "time": (pa.array([12 * 3600 * 10**9 + 5999], pa.time64("ns")), datetime.time(12, 0, 0, 5)),
    "timestamp": (pa.array([NOON], pa.timestamp("us")), NOON),
    "nanoseconds": (
        pa.array([int(UTC_NOON.timestamp()) * 10**9 + 5999], pa.timestamp("ns")),
        NOON,
    ),
    "zone": (
        pa.array([NOON], pa.timestamp("us", "Asia/Shanghai")),
        UTC_NOON,
    ),
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "list": (pa.array([["a", None]]), ["a", None]),
    "list of double": (pa.array([[1.1, 2.2]]), [1.1, 2.2]),
    "struct": (pa.array([{"a": {"b": [1]}}]), {"a": {"b": [1]}}),
    "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), {"k": 1}),
    "null": (pa.nulls(1), None),
}


@pytest.mark.parametrize("name", _TYPES)
def test_an_arrow_type_comes_as_pythons_own(tmp_path: Path, name: str) -> None:
    """With ["*"]: no value is turned into text or rounded, but for nanoseconds."""
    array, expected = _TYPES[name]
    table = pa.table({"v": pa.concat_arrays([array, pa.nulls(1, array.type)])})
    pq.write_table(table, tmp_path / "a.parquet")
    one, other = rows(reader(tmp_path))
    assert (one["v"], type(one["v"])) == (expected, type(expected))
    assert other == {"v": None}


_VECTORS = {
    "list of float": pa.list_(pa.float32()),
    "large list of float": pa.large_list(pa.float32()),
    "fixed-size list of float": pa.list_(pa.float32(), 2),
    "fixed-size list of double": pa.list_(pa.float64(), 2),
    "list of half": pa.list_(pa.float16()),
}


def vectors(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An array of lists; pyarrow 19 takes no Python floats for 16 bits."""
    half = kind.value_type == pa.float16()
    return pa.array(values, pa.list_(pa.float32()) if half else kind).cast(kind)


@pytest.mark.parametrize("name", _VECTORS)
def test_lists_of_floats_are_vectors(tmp_path: Path, name: str) -> None:
    """A 1-D float32 array of its own; with a null in it a list."""
    # pyarrow itself can't read back a null among lists of a fixed size.
    values = [[1.0, 2.0], [] if "fixed" not in name else [5.0, 6.0], [3.0, 4.0]] * 300
    pq.write_table(pa.table({"v": vectors(values, _VECTORS[name])}), tmp_path / "a.parquet")
    found = [row["v"] for row in rows(reader(tmp_path))]
    assert [v.tolist() for v in found] == values
    assert (found[0].dtype, found[0].shape, found[0].base) == (np.float32, (2,), None)
    pq.write_table(pa.table({"v": vectors([[1.0, None]], _VECTORS[name])}), tmp_path / "a.parquet")
    assert rows(reader(tmp_path)) == [{"v": [1.0, None]}]
    if "fixed" not in name:
        nulls = pa.table({"v": vectors([None, [1.0]], _VECTORS[name])})
        pq.write_table(nulls, tmp_path / "a.parquet")
        assert [row["v"] is None for row in rows(reader(tmp_path))] == [True, False]


@pytest.mark.parametrize(
    ("array", "kind", "expected"),
    [
        (pa.array([decimal.Decimal("12.00")]), "long", 12),
        (pa.array([decimal.Decimal("1.5")]), "double", 1.5),
        (pa.array([decimal.Decimal("1.50")]), "string", "1.50"),
        (pa.array([NOON]), "date", UTC_NOON),
        (pa.array([NOON]), "string", NOON.isoformat()),
        (pa.array([datetime.date(2024, 2, 1)]), "date", DAY),
        (pa.array(["2024-02-01"]), "date", DAY),
        (pa.array(["7"]), "long", 7),
        (pa.array([b"abc"]), "string", "abc"),
        (pa.array([{"a": [1, None]}]), "string", '{"a":[1,null]}'),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32())), "string", "[1.0,2.0]"),
        (pa.array([1]), "boolean", True),
        (pa.array([1e30]), "string", orjson.dumps(1e30).decode()),
        (pa.array([float("-inf")]), "string", "-Infinity"),
        (pa.array([float("nan")]), "string", "NaN"),
        (pa.array([decimal.Decimal("0.00000001")]), "string", "0.00000001"),
        (pa.array([datetime.timedelta(hours=1)]), "string", "1:00:00"),
        (pa.array([[(b"k", 1)]], pa.map_(pa.binary(), pa.int64())), "string", '{"k":1}'),
        (
            pa.array([[(decimal.Decimal("1.5"), 1)]], pa.map_(pa.decimal128(5, 1), pa.int64())),
            "string", '{"1.5":1}',
        ),
    ],
)  # fmt: skip
def test_values_become_the_type_of_their_column(
    tmp_path: Path, array: pa.Array, kind: str, expected: Any
) -> None:
    """As in jsonl, and decimals are numbers, dates are dates, bytes are UTF-8."""
    pq.write_table(pa.table({"v": array}), tmp_path / "a.parquet")
    assert rows(reader(tmp_path, column=[{"name": "v", "type": kind}])) == [{"v": expected}]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([decimal.Decimal("1.5")]), "long"),
        (pa.array([b"\xff"]), "string"),
        (pa.array([{"b": [b"\xff"]}]), "string"),
        (pa.array([[(b"\xff", 1)]], pa.map_(pa.binary(), pa.int64())), "string"),
        (pa.array([2.5]), "long"),
        (pa.array([[1]]), "double"),
        (pa.array([NOON]), "long"),
        (pa.array([2**60], pa.timestamp("us")), "date"),
        (pa.array([2**60], pa.timestamp("us")), None),
        (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())), None),
    ],
)
def test_a_value_that_does_not_fit_rejects_its_row_only(
    tmp_path: Path, array: pa.Array, kind: str | None
) -> None:
    """The origin is file:group/row; the row is kept as JSON for a replay."""
    both = pa.concat_arrays([pa.nulls(1, array.type), array, pa.nulls(1, array.type)])
    pq.write_table(pa.table({"id": [1, 2, 3], "v": both}), tmp_path / "a.parquet")
    first, bad, last = items_of(reader(tmp_path, column=["id", {"name": "v", "type": kind}]))
    assert (first, last) == ({"id": 1, "v": None}, {"id": 3, "v": None})
    assert isinstance(bad, Reject)
    assert (bad.reason, bad.origin) == ("wrong-type", "a.parquet:0/1")
    assert "a.parquet, row group 0, row 1: column 'v': " in bad.message
    assert json.loads(str(bad.raw))["id"] == 2


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_columns_by_index_name_value_place_and_none_at_all(tmp_path: Path, kind: str) -> None:
    """Only the columns asked for are read; numbers of rows count from 1 through the file."""
    table = pa.table({"a": list(range(30)), "b": ["x"] * 30})
    sink = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=7)
    else:
        pa.orc.write_table(table, sink, stripe_size=1, batch_size=8)
    column = [
        {"index": 1, "name": "second"},
        {"name": "lang", "value": "en"},
        {"name": "file", "from": "fileName"},
        {"name": "n", "from": "lineNumber"},
    ]
    source = reader(tmp_path, kind, 10, column=column)
    assert len(source.plan().splits) == 1
    found = rows(source)
    assert found[0] == {"second": "x", "lang": "en", "file": f"t.{kind}", "n": 1}
    assert [row["n"] for row in found] == list(range(1, 31))
    constant = reader(tmp_path, kind, column=[{"name": "c", "value": 1}])
    assert rows(constant) == [{"c": 1}] * 30


def test_a_column_that_is_not_there_fails_the_check_and_the_run(tmp_path: Path) -> None:
    """The message names the file, the columns, and the nearest of them."""
    pq.write_table(pa.table({"title": ["x"]}), tmp_path / "a.parquet")
    source = reader(tmp_path, column=["titel"])
    with pytest.raises(JobError, match=r"a\.parquet has no column 'titel'; did you mean 'title'"):
        source.check()
    with pytest.raises(FatalError, match="no column 'titel'"):
        items_of(source)
    with pytest.raises(FatalError, match="none of the index 3"):
        items_of(reader(tmp_path, column=[{"index": 3}]))


def test_two_columns_of_one_name_are_taken_by_index(tmp_path: Path) -> None:
    """With ["*"] one of them would be lost."""
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(FatalError, match="'a' twice"):
        items_of(reader(tmp_path))
    column = [{"index": 1, "name": "second"}]
    assert rows(reader(tmp_path, column=column)) == [{"second": 2}]


@pytest.mark.parametrize("kind", ["parquet", "orc"])
@pytest.mark.parametrize("keep", [0.5, 0.99, 1.0])
def test_a_damaged_file_fails_by_name(tmp_path: Path, kind: str, keep: float) -> None:
    """Cut off, or overwritten in its middle; nothing of another file is passed over."""
    sink = io.BytesIO()
    table = pa.table({"a": [str(i) * 20 for i in range(5000)]})
    write = pq.write_table if kind == "parquet" else pa.orc.write_table
    write(table, sink)
    data = bytearray(sink.getvalue()[: int(len(sink.getvalue()) * keep)])
    if keep == 1.0:
        data[100 : len(data) // 2] = b"\xff" * (len(data) // 2 - 100)
    (tmp_path / f"a.{kind}").write_bytes(bytes(data))
    with pytest.raises(FatalError, match=rf"a\.{kind} is not a sound {kind} file"):
        items_of(reader(tmp_path, kind))
    if keep < 1.0:
        with pytest.raises(JobError, match="write it anew"):
            reader(tmp_path, kind).check()


def test_a_value_that_cannot_be_read_is_refused_again_by_a_replay(tmp_path: Path) -> None:
    """Its reject tells why, and those words never pass for the value."""
    far = pa.array([4 * 10**18], pa.timestamp("us"))
    pq.write_table(pa.table({"id": [1], "ts": far}), tmp_path / "a.parquet")
    source = reader(tmp_path)
    (reject,) = items_of(source)
    assert isinstance(reject, Reject)
    again = source.reread(reject.raw or "", reject.origin)
    assert isinstance(again, Reject)
    assert (again.reason, again.raw) == (reject.reason, reject.raw)
    assert json.loads(reject.raw or "")["ts"].keys() == {"$unreadable"}


def test_an_empty_table_has_no_rows_and_all_its_bytes(tmp_path: Path) -> None:
    """Also a file without a row group is counted."""
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    source = reader(tmp_path, split_bytes=100)
    assert rows(source) == []
    assert source.counts.values["bytes-read"] == source.plan().size.bytes


@pytest.mark.slow
def test_the_first_row_takes_a_few_pages_not_a_row_group(tmp_path: Path) -> None:
    """A preview of a row group of 40 MB reads an eighth of it at most."""
    text = [np.random.default_rng(i).bytes(500).hex() for i in range(20_000)]
    table = pa.table({"id": range(20_000), "a": text, "b": text})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    source = reader(tmp_path)
    opened: list[Any] = []
    store_open = source._store.open
    source._store.open = lambda *a: _Counted(store_open(*a), opened)  # type: ignore[assignment]
    stream = source.read(source.plan().splits[0])
    assert next(stream)["id"] == 0  # type: ignore[index]
    stream.close()  # type: ignore[attr-defined]
    assert 0 < sum(opened) < 5_000_000


@pytest.mark.slow
def test_a_long_text_that_is_stored_once_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A file of some kilobytes has 4,096 rows of 100 kB; not all of them are held at once."""
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 4096, pa.int32()), ["x" * 100_000])
    pq.write_table(pa.table({"t": once}), tmp_path / "a.parquet", store_schema=False)
    table = ParquetTable(tmp_path / "a.parquet")
    sizes = [batch.nbytes for batch in table.batches(0, None)]
    assert sum(sizes) > 400_000_000
    assert max(sizes) < 80_000_000


class _Counted(io.RawIOBase):
    """A file that notes how much is read of it."""

    def __init__(self, raw: Any, sizes: list[int]) -> None:
        self._raw, self._sizes = raw, sizes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self._raw.tell())

    def read(self, size: int = -1) -> Any:
        data = self._raw.read(size)
        self._sizes.append(len(data))
        return data


def test_old_timestamps_of_96_bits_keep_their_year(tmp_path: Path) -> None:
    """Hive and Spark write them, and mark what never ends with the year 9999."""
    days = [datetime.datetime(9999, 12, 31, 1, 2, 3, 4), datetime.datetime(1, 1, 1), NOON]
    table = pa.table({"v": pa.array(days, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert [row["v"] for row in rows(reader(tmp_path))] == days


def test_a_far_timestamp_in_an_orc_file_is_told_and_other_columns_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """pyarrow has nanoseconds there, which end in 2262."""
    far = pa.array([datetime.datetime(9999, 12, 31)], pa.timestamp("us"))
    pa.orc.write_table(pa.table({"id": [1], "v": far}), tmp_path / "a.orc")
    caplog.clear()
    if int(pa.__version__.partition(".")[0]) < TELLS_OVERFLOW:
        rows(reader(tmp_path, "orc"))
        assert "outside the years 1677 to 2262" in caplog.text
        return
    with pytest.raises(FatalError, match=r"a\.orc has a timestamp outside the years .* column out"):
        items_of(reader(tmp_path, "orc"))
    assert rows(reader(tmp_path, "orc", column=["id"])) == [{"id": 1}]


def test_a_page_whose_checksum_is_wrong_fails_the_job(tmp_path: Path) -> None:
    """One bit of a number would otherwise be another number."""
    table = pa.table({"a": range(10_000)})
    pq.write_table(
        table, tmp_path / "a.parquet", compression="none", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[5000] ^= 1
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    with pytest.raises(FatalError, match=r"a\.parquet is not a sound parquet file \(.*checksum"):
        items_of(reader(tmp_path))


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_a_replayed_row_has_its_number(tmp_path: Path, kind: str) -> None:
    """Counted through the groups before its own, as when it was read."""
    table = pa.table({"a": [*map(str, range(25)), "x"]})
    sink = tmp_path / "t"
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=7)
    else:
        pa.orc.write_table(table, sink, stripe_size=1, batch_size=8)
    number = {"name": "n", "from": "lineNumber"}
    typed = reader(tmp_path, kind, column=[{"name": "a", "type": "long"}, number])
    (bad,) = rejects(typed)
    plain = reader(tmp_path, kind, column=["a", number])
    assert plain.reread(bad.raw or "", bad.origin) == rows(plain)[-1] == {"a": "x", "n": 26}


class TestJson:
    @pytest.mark.slow
    @pytest.mark.in_turn("text")
    @pytest.mark.parametrize("text", ['"]"', r'"\\"', r'"\"]["', "1"])
    @pytest.mark.parametrize("depth", [200, 5_000, 100_000])
    def test_an_object_that_is_nested_too_deep_is_a_reject_and_takes_no_memory(
        self, tmp_path: Path, text: str, depth: int
    ) -> None:
        """The parser's memory grows with its square: 20 GB for 100 kB. Texts may hold brackets."""
        deep = f'{{"a":{"[" * depth}{text}{"]" * depth}, "b": 1}}'
        flat = json.loads(f'{{"a":[{text}]}}')
        (tmp_path / "a.json").write_text(f"[{json.dumps(flat)},{deep},{json.dumps(flat)},{deep}]")
        tracemalloc.start()
        try:
            items = items_of(reader(tmp_path, "json"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20
        assert [i for i in items if isinstance(i, Change)] == [flat, flat]
        bad = [i for i in items if isinstance(i, Reject)]
        assert [(i.reason, i.origin) for i in bad] == [("too-deep", f"a.json:{n}") for n in (1, 3)]

    @pytest.mark.parametrize("beside", ["", "x" * 70_000])
    def test_a_document_of_one_object_that_is_nested_too_deep_is_a_reject(
        self, tmp_path: Path, beside: str
    ) -> None:
        """Whether its depth is met in the first block that is read or in a later one."""
        (tmp_path / "a.json").write_text(f'{{"b":"{beside}","a":{"[" * 201}{"]" * 201}}}')
        (tmp_path / "b.json").write_text('{"a":1}')
        bad, good = items_of(reader(tmp_path, "json"))
        assert isinstance(bad, Reject)
        assert (bad.reason, bad.origin, good) == ("too-deep", "a.json:0", {"a": 1})

    def test_a_deep_document_that_breaks_off_fails_by_name(self, tmp_path: Path) -> None:
        """What is left out has an end, or the document has none."""
        (tmp_path / "a.json").write_text('[{"a":' + "[" * 5_000)
        with pytest.raises(FatalError, match=r"a\.json .*not a sound JSON document"):
            items_of(reader(tmp_path, "json"))

    @pytest.mark.slow
    def test_brackets_in_texts_and_side_by_side_are_no_nesting(self, tmp_path: Path) -> None:
        """However they lie to the blocks in which a file is read."""
        table = [
            {"t": "[{" * i + '"\\' * (i % 5), "l": [[], [{}]] * 300, "d": _nested(190)}
            for i in range(400)
        ]
        (tmp_path / "a.json").write_text(json.dumps(table))
        assert rows(reader(tmp_path, "json")) == table

    def test_an_array_a_single_object_and_nothing(self, tmp_path: Path) -> None:
        """Each object is a row; its origin is its place."""
        (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf\n [{"id":1}, {"id":2.5}]\n')
        (tmp_path / "b.json").write_bytes(b'{"id":[{"x":1}]}')
        (tmp_path / "c.json").write_bytes(b" \n")
        (tmp_path / "d.json").write_bytes(b"")
        source = reader(tmp_path, "json", split_bytes=3)
        found = rows(source)
        assert found == [{"id": 1}, {"id": 2.5}, {"id": [{"x": 1}]}]
        assert [i.origin for i in found] == ["a.json:0", "a.json:1", "b.json:0"]
        assert source.counts.values == {"rows-read": 3, "bytes-read": source.plan().size.bytes}

    def test_elements_that_are_no_rows_are_rejected(self, tmp_path: Path) -> None:
        """A number, a wrong type, a number out of range; the others are read."""
        (tmp_path / "a.json").write_text('[{"n":1}, 5, {"n":"x"}, {"n":1e999}, {"n":2}]')
        items = items_of(reader(tmp_path, "json", column=[{"name": "n", "type": "long"}]))
        assert [i["n"] for i in items if isinstance(i, Change)] == [1, 2]
        bad = [(i.reason, i.origin) for i in items if isinstance(i, Reject)]
        assert bad == [
            ("not-an-object", "a.json:1"),
            ("wrong-type", "a.json:2"),
            ("invalid-json", "a.json:3"),
        ]

    def test_numbers_are_those_of_json_lines(self, tmp_path: Path) -> None:
        """Whole ones are exact, however long; none becomes a float unseen."""
        record = '{"n":18446744073709551615,"m":123456789012345678901,"x":[1.0,-0.5e3]}'
        for kind, text in (("json", f"[{record}]"), ("jsonl", f"{record}\n")):
            (tmp_path / kind).mkdir()
            (tmp_path / kind / "a").write_text(text)
        (row,), (line,) = (rows(reader(tmp_path / kind, kind)) for kind in ("json", "jsonl"))
        assert repr(dict(row)) == repr(dict(line))
        assert row == {"n": 2**64 - 1, "m": 123456789012345678901, "x": [1.0, -500.0]}
        assert type(row["m"]) is int

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b'[{"id":1},{"id":', "not a sound JSON document"),
            (b'[{"id":1}] {"id":2}', "not a sound JSON document"),
            (b'[{"id":NaN}]', "not a sound JSON document"),
            (b'[{"id":"\xff"}]', "not a sound JSON document"),
            (b'[{"id":"' + b"x" * 300_000 + b'"}]', "maxLineBytes"),
        ],
        ids=["cut", "two", "nan", "encoding", "long"],
    )
    def test_a_document_that_breaks_off_fails_by_name(
        self, tmp_path: Path, data: bytes, message: str
    ) -> None:
        """What comes after the fault is unknown, so nothing is rejected."""
        (tmp_path / "a.json").write_bytes(data)
        with pytest.raises(FatalError, match=rf"a\.json .*{message}"):
            items_of(reader(tmp_path, "json", maxLineBytes=1000))

    def test_other_encodings(self, tmp_path: Path) -> None:
        """A document in gb18030 is read as it stands."""
        table = [{"t": "中文" * 50_000}, {"t": "|"}]
        (tmp_path / "a.json").write_bytes(json.dumps(table, ensure_ascii=False).encode("gb18030"))
        assert rows(reader(tmp_path, "json", encoding="gb18030")) == table


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_too_deep_to_be_written_as_text_rejects_its_row(tmp_path: Path) -> None:
    """Also in a jsonl file, whose parser would take it."""
    lines = [json.dumps({"a": _nested(n)}) for n in (400, 1)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    bad, good = items_of(reader(tmp_path, "jsonl", column=[{"name": "a", "type": "string"}]))
    assert isinstance(bad, Reject)
    assert (bad.reason, good) == ("too-deep", {"a": "[[]]"})
