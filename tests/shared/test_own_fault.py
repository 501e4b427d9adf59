"""A fault in our own code ends the run in words; it never makes a good row a reject."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.shared.contexts import step_context
from vecferry.errors import FatalError, TerminalError, is_own_fault
from vecferry.io.common import arrow
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.io.milvus import MilvusSettings
from vecferry.io.milvus import values as milvus
from vecferry.io.milvus.catalog import CollectionInfo, FieldInfo
from vecferry.io.postgresql import PostgresWriterSettings
from vecferry.io.postgresql import rows as pg
from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo
from vecferry.io.postgresql.settings import sql_type
from vecferry.io.search import values as search
from vecferry.io.search.dialect import Field
from vecferry.io.tables.plan import TableSplit
from vecferry.io.tables.source import RowMaker
from vecferry.rows import Change, Reject
from vecferry.transforms.embed.images import prepare

WRONG = [TypeError("no such argument"), AttributeError("no such name"), NameError("x")]


@pytest.fixture(params=WRONG, ids=lambda e: type(e).__name__)
def broken(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function with a fault in it."""

    def call(*_: Any, **__: Any) -> Any:
        raise request.param

    return call


def parquet(folder: Path, column: pa.Array) -> list[Change | Reject]:
    """What the reader gives of a file with one column."""
    pq.write_table(pa.table({"id": range(len(column)), "c": column}), folder / "in.parquet")
    settings = FilesSettings.model_validate(
        {"object": ["in.parquet"], "fileFormat": "parquet", "column": ["*"]}
    )
    source = FileSource(settings, LocalConnection(path=str(folder)), step_context("Reader", "file"))
    return [item for split in source.plan().splits for item in source.read(split)]


def test_of_a_reader_of_files(
    tmp_path: Path, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the column and its type are named."""
    monkeypatch.setitem(arrow._PYTHON, pa.map_(pa.string(), pa.int64()).id, broken)
    column = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(FatalError, match=r"column 'c' of type map<.*fault of vecferry"):
        parquet(tmp_path, column)


def test_a_value_that_python_cannot_hold_stays_a_reject(tmp_path: Path) -> None:
    """Times out of range, keys that are lists, and keys that come twice are of the row."""
    for column in (
        pa.array([2**49, 0], pa.timestamp("ms")),
        pa.array([2**62, 0], pa.timestamp("us")),
        pa.array([[([1], 1)], []], pa.map_(pa.list_(pa.int64()), pa.int64())),
        pa.array([[("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int64())),
        pa.array([4_000_000, 0], pa.int32()).cast(pa.date32()),
    ):
        bad, good = parquet(tmp_path, column)
        assert isinstance(bad, Reject), column.type
        assert bad.reason == "wrong-type"
        assert isinstance(good, Change)


class Rows:
    """A result of two columns, the second of which goes through a converter."""

    names = ("id", "c")
    int_at = frozenset({0})

    def __init__(self, convert: Callable[[Any], Sequence[Any]]) -> None:
        self.converters = [None, convert]

    def raw(self, at: int, value: Any) -> Any:
        return value

    def text(self, at: int, value: Any) -> str:
        return str(value)


def table_rows(convert: Callable[[Any], Any]) -> list[Change | Reject]:
    """What becomes of a row of a table."""
    split = TableSplit(0, "s.t", "SELECT", names=("id",), visible=2, width=2, origin_at=(0,))
    maker = RowMaker(split, step_context("Reader", "mysql"))
    maker.begin(Rows(convert))  # type: ignore[arg-type]
    return maker.of([(1, b"x")])


def test_of_a_reader_of_tables(broken: Callable[..., Any]) -> None:
    """A converter's fault is not the row's, and a value that does not fit still is."""
    with pytest.raises(FatalError, match=r"s\.t: column 'c' of type bytes: .*fault of vecferry"):
        table_rows(broken)

    def unfit(_: Any) -> Any:
        raise UnfitValue("not a day", "zero-date")

    (reject,) = table_rows(unfit)
    assert isinstance(reject, Reject)
    assert reject.reason == "zero-date"


def milvus_encoder() -> Any:
    flags = dict.fromkeys(("auto_id", "partition_key", "nullable", "has_default"), False)
    others = dict.fromkeys(("dimension", "max_capacity", "element_type", "metric"), None)
    fields = [
        FieldInfo(
            name=n, type=t, primary=n == "id", computed=False, max_length=9, **flags, **others
        )
        for n, t in (("id", "Int64"), ("c", "VarChar"))
    ]
    settings = MilvusSettings.model_validate({"collection": "c"})
    return milvus.RowEncoder(settings, CollectionInfo(name="c", fields=tuple(fields)))


def pg_encoder() -> Any:
    columns = (
        ColumnInfo(name="id", type=sql_type("bigint"), primary=True),
        ColumnInfo(name="c", type=sql_type("numeric")),
    )
    settings = PostgresWriterSettings.model_validate({"table": "t", "column": ["id", "c"]})
    return pg.RowEncoder(settings, TableInfo(name="t", schema="s", relation="t", columns=columns))


def search_encoder() -> Any:
    settings = ElasticsearchSettings.model_validate(
        {
            "index": "i",
            "column": [{"name": "id", "type": "keyword", "primaryKey": True}, {"name": "c"}],
        }
    )
    return search.RowEncoder(settings, {"id": Field("id", "keyword"), "c": Field("c", "text")})


@pytest.mark.parametrize(
    ("make", "place"),
    [(milvus_encoder, 1), (pg_encoder, 1), (search_encoder, 1)],
    ids=["milvus", "postgresql", "search"],
)
def test_of_a_writer(make: Callable[[], Any], place: int, broken: Callable[..., Any]) -> None:
    """The column and the type of its value are named; a wrong value is the row's as before."""
    encoder = make()
    plan = [list(step) for step in encoder._plan]
    at = next(i for i, v in enumerate(plan[place]) if callable(v))
    plan[place][at] = broken
    encoder._plan = [tuple(step) for step in plan]
    with pytest.raises(FatalError, match=r"column 'c', a str for .*fault of vecferry"):
        encoder.encode(Change({"id": 1, "c": "x"}))

    def wrong(_: Any) -> Any:
        raise TerminalError("too long", "too-long")

    plan[place][at] = wrong
    encoder._plan = [tuple(step) for step in plan]
    with pytest.raises(TerminalError) as caught:
        encoder.encode(Change({"id": 1, "c": "x"}))
    assert not isinstance(caught.value, FatalError)


def test_of_the_code_that_prepares_images(
    broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the decoder is the image's, whatever its type; one of ours is not."""
    data = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(data, "PNG")
    rules = prepare.ImageRules(most_bytes=1 << 20, formats=None, most_pixels=None, model="m")
    code = compile("def decode(*_):\n    raise TypeError('ours')", "x", "exec")
    ours: dict[str, Any] = {"__name__": "vecferry.x"}
    exec(code, ours)
    monkeypatch.setattr(prepare, "_decode", ours["decode"])
    with pytest.raises(FatalError, match="fault of vecferry"):
        prepare.prepare(b"key", data.getvalue(), rules)
    theirs: dict[str, Any] = {"__name__": "PIL.x"}
    exec(code, theirs)
    monkeypatch.setattr(prepare, "_decode", theirs["decode"])
    with pytest.raises(TerminalError) as caught:
        prepare.prepare(b"key", data.getvalue(), rules)
    assert caught.value.reason == "bad-image"


def test_an_error_of_a_library_is_not_ours() -> None:
    """It is known by the module that raised it."""
    with pytest.raises(TypeError) as caught:
        int.__add__("x", 1)  # type: ignore[arg-type]
    assert not is_own_fault(caught.value)
    assert not is_own_fault(ValueError("a value"))
