"""A MaxCompute table as rows: the same ones with the same origins, however it is split and asked.

The server is our own and speaks the protocol that pyodps does; see tests/io/odps/server.py.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.effort import tries
from tests.io.odps.server import OdpsServer, Rows, Table
from tests.io.odps.support import ROWS, ids, read_all, reader, talks
from tests.pipelines.support import Bench, counts_add_up
from vecferry.errors import JobError
from vecferry.io.odps import OdpsConnection, OdpsSettings, ReadFromOdps
from vecferry.io.odps.client import OdpsClient
from vecferry.io.odps.plan import OdpsSplit
from vecferry.retry import Backoff
from vecferry.rows import Change, Reject

PAGE = Path(__file__).parents[3] / "docs" / "odps.md"
UTC = datetime.UTC


@pytest.fixture(scope="module")
def shared() -> Iterator[OdpsServer]:
    """A server that no test changes."""
    with OdpsServer(batch_rows=700) as server:
        server.add(talks())
        yield server


@pytest.fixture
def server() -> Iterator[OdpsServer]:
    """A server for one test."""
    with OdpsServer(batch_rows=700) as server:
        server.add(talks())
        yield server


# --- rows, origins, splits


def recut(split: OdpsSplit, ends: list[int]) -> list[OdpsSplit]:
    """A split cut at other rows."""
    borders = [0, *sorted(set(ends) - {0, split.count}), split.count]
    return [
        dataclasses.replace(split, start=split.start + a, count=b - a)
        for a, b in itertools.pairwise(borders)
    ]


@pytest.mark.slow
@tries(5, 100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, ROWS - 1), max_size=63))
def test_any_split_gives_the_same_rows_with_the_same_origins(
    shared: OdpsServer, ends: list[int]
) -> None:
    """None lost, none doubled, in order."""
    of = reader(shared)
    (whole,) = of.plan().splits
    items = [item for split in recut(whole, ends) for item in of.read(split)]
    assert ids(items) == list(range(ROWS))
    assert [i.origin for i in items] == [f"shop.talks/split=dev:{n}" for n in range(ROWS)]
    assert of.counts.values["rows-read"] == ROWS


@pytest.mark.slow
def test_splits_follow_the_streams_and_are_bounded(shared: OdpsServer) -> None:
    """Some for each stream, of 10,000 rows at least and maxSplitRows at most; or a partition."""
    of = reader(shared, maxSplitRows=800, context={"concurrent": 2})
    assert [(s.start, s.count) for s in of.plan().splits] == [(0, 800), (800, 800), (1600, 400)]
    assert [s.count for s in reader(shared).plan().splits] == [ROWS]
    whole = reader(shared, maxSplitRows=800, splitMode="partition", partition=["split=*"])
    assert [s.count for s in whole.plan().splits] == [ROWS, 1]


def test_splits_can_be_read_in_another_process(shared: OdpsServer) -> None:
    """A worker takes up the session by its id; it opens none."""
    splits = pickle.loads(pickle.dumps(reader(shared, maxSplitRows=1200).plan().splits))
    sessions = shared.count("session")
    worker = pickle.loads(pickle.dumps(reader(shared)))
    assert sum(1 for split in splits for _ in worker.read(split)) == ROWS
    assert shared.count("session") == sessions


def test_size_and_splits_are_of_the_same_sessions(server: OdpsServer) -> None:
    """Of all partitions that are meant, opened once."""
    of = reader(server, partition=["split=*"])
    assert of.plan().size.rows == ROWS + 1
    assert sum(s.count for s in of.plan().splits) == ROWS + 1
    assert server.count("session") == 2


def test_what_a_check_asked_for_is_not_asked_for_again(server: OdpsServer) -> None:
    """The table, its partitions and a session of each: once for check, plan and size."""
    of = reader(server, partition=["split=*"])
    of.check()
    pages = Counter(kind for kind, _, _ in server.seen)["partitions"]
    plan = of.plan()
    assert plan.size.rows == sum(s.count for s in plan.splits) == ROWS + 1
    assert of.plan() == plan
    asked = Counter(kind for kind, _, _ in server.seen)
    assert (asked["partitions"], asked["session"]) == (pages, 2)


def test_rows_are_those_of_the_moment_when_the_session_was_opened(server: OdpsServer) -> None:
    """What is written meanwhile is not seen, in no part of the read."""
    of = reader(server, maxSplitRows=1000)
    splits = of.plan().splits
    first = list(of.read(splits[0]))
    server.replace("talks", "split=dev", [{"id": -5, "sentence": "new"}] * 9)
    rest = [item for split in splits[1:] for item in of.read(split)]
    assert ids(first + rest) == list(range(ROWS))


def test_columns_come_in_the_jobs_order_from_table_key_and_constant(shared: OdpsServer) -> None:
    """Under the names that the job writes, whatever their case in the table."""
    columns = ["SPLIT", "'x'", "Sentence", {"name": "n", "value": "7", "type": "long"}, "id"]
    row = read_all(reader(shared, column=columns))[3]
    assert list(row.items()) == [
        ("SPLIT", "dev"), ("'x'", "x"), ("Sentence", "sentence 3"), ("n", 7), ("id", 3),
    ]  # fmt: skip


def test_a_star_is_all_columns_but_the_keys(shared: OdpsServer) -> None:
    """As in DataX; a key may stand beside it."""
    assert list(read_all(reader(shared, column=["*"]))[0]) == ["id", "sentence"]
    assert list(read_all(reader(shared, column=["split", "*"]))[0]) == ["split", "id", "sentence"]


def test_without_a_column_of_the_table_there_is_a_row_for_each_row(shared: OdpsServer) -> None:
    """Also constants and keys alone are rows."""
    items = read_all(reader(shared, column=["split", "'c'"]))
    assert len(items) == ROWS
    assert dict(items[-1]) == {"split": "dev", "'c'": "c"}


def test_only_what_is_asked_for_is_asked_of_the_server(server: OdpsServer) -> None:
    """Columns that the job doesn't name are not downloaded."""
    read_all(reader(server, column=["sentence", "split"]))
    (data,) = [p for k, _, p in server.seen if k == "data"]
    assert data["columns"] == "sentence"


def test_compressed_transport_gives_the_same_rows(server: OdpsServer) -> None:
    """`isCompress` asks the tunnel for deflate."""
    assert ids(read_all(reader(server, isCompress=True))) == list(range(ROWS))


@pytest.mark.slow
def test_a_table_without_partitions_has_origins_without_one(server: OdpsServer) -> None:
    """And `partition` must be left out."""
    server.add(Table("plain", {"id": "bigint"}, {"": [{"id": 1}, {"id": 2}]}))
    items = read_all(reader(server, table="plain", partition=[], column=["id"]))
    assert [i.origin for i in items] == ["shop.plain:0", "shop.plain:1"]
    with pytest.raises(JobError, match="'plain' has no partitions; leave `partition` out"):
        reader(server, table="plain", partition=["a=1"], column=["id"]).plan()


def test_an_empty_table_has_no_splits(server: OdpsServer) -> None:
    """That is not an error."""
    server.add(Table("void", {"id": "bigint"}, {"": []}))
    of = reader(server, table="void", partition=[], column=["id"])
    of.check()
    assert (of.plan().splits, of.plan().size.rows) == ([], 0)


def test_who_wants_more_than_was_announced_gets_it_without_a_pause(server: OdpsServer) -> None:
    """A reader that expects few rows asks for few, and for more when they are taken."""
    of = reader(server, context={"row_limit": 7})
    assert ids(read_all(of)) == list(range(ROWS))
    asked = [p["rowrange"] for k, _, p in server.seen if k == "data"]
    assert asked[:3] == ["(0,7)", "(7,7)", "(14,14)"]
    assert len(asked) < 15


# --- which partitions


def test_partitions_are_chosen_by_their_values(server: OdpsServer) -> None:
    """Also where the server lists them in several answers; each is a session of its own."""
    days = [f"ds=202401{d:02}" for d in range(1, 10)]
    rows = {day: [{"id": int(day[-2:])}] for day in days}
    server.add(Table("days", {"id": "bigint"}, rows, {"ds": "string"}))
    chosen = ["/*query*/ds > '20240106'", "ds=20240102"]
    items = read_all(reader(server, table="days", partition=chosen, column=["id", "ds"]))
    assert sorted(ids(items)) == [2, 7, 8, 9]
    assert {i.origin for i in items if i["id"] == 2} == {"shop.days/ds=20240102:0"}


def test_a_missing_partition_is_an_error_or_none_at_all(
    server: OdpsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As `successOnNoPartition` says; the nearest is named."""
    of = reader(server, partition=["split=devv"])
    for call in (of.check, of.plan):
        with pytest.raises(JobError, match=r"step 'Reader': .*did you mean 'split=dev'"):
            call()
    lenient = reader(server, partition=["split=devv"], successOnNoPartition=True)
    with caplog.at_level(logging.WARNING):
        lenient.check()
        assert (lenient.plan().splits, lenient.plan().size.rows) == ([], 0)
    assert "split=devv" in caplog.text


def test_a_partitioned_table_is_never_read_whole_by_omission(shared: OdpsServer) -> None:
    """The error says how to mean all partitions."""
    with pytest.raises(JobError, match=re.escape("all of them with 'split=*'")):
        reader(shared, partition=[]).plan()


def test_keys_of_numbers_are_numbers_in_rows(server: OdpsServer) -> None:
    """The value of a key has the key's type."""
    keys = {"n": "bigint", "d": "date"}
    nulls = "n=8,d=__HIVE_DEFAULT_PARTITION__"
    rows = {"n=7,d=2024-01-31": [{"id": 1}]}
    server.add(Table("keyed", {"id": "bigint"}, rows, keys))
    for where in ({}, {"where": "id = 1", "enableWhere": True}):
        columns = ["id", "n", "d"]
        (row,) = read_all(reader(server, table="keyed", partition=["n=7"], column=columns, **where))
        assert (row["n"], row["d"]) == (7, datetime.date(2024, 1, 31))
    server.tables["keyed"].rows[nulls] = server.tables["keyed"].held([{"id": 2}])
    (row,) = read_all(reader(server, table="keyed", partition=["n=8"], column=["d", "id"]))
    assert dict(row) == {"d": None, "id": 2}


# --- types

MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123000, tzinfo=UTC)
MICROS = MOMENT.replace(microsecond=123456)

TYPES: list[tuple[str, Any, Any]] = [
    ("TINYINT", -128, -128),
    ("SMALLINT", 32767, 32767),
    ("INT", -(2**31), -(2**31)),
    ("BIGINT", 2**63 - 1, 2**63 - 1),
    ("FLOAT", 0.5, 0.5),
    ("DOUBLE", 0.1, 0.1),
    ("DECIMAL(10,2)", Decimal("1.50"), Decimal("1.50")),
    ("DECIMAL(38,18)", Decimal(1) / 2**18, Decimal(1) / 2**18),
    ("DECIMAL", Decimal(10) ** 30, Decimal(10) ** 30),
    ("STRING", "零一\x00", "零一\x00"),
    ("VARCHAR(10)", "v", "v"),
    ("CHAR(3)", "c  ", "c  "),
    ("BINARY", b"\xff\x00", b"\xff\x00"),
    ("BOOLEAN", True, True),
    ("DATE", datetime.date(1, 1, 1), datetime.date(1, 1, 1)),
    ("DATETIME", MOMENT, MOMENT),
    ("TIMESTAMP", MICROS, MICROS),
    ("TIMESTAMP_NTZ", MICROS.replace(tzinfo=None), MICROS.replace(tzinfo=None)),
    ("ARRAY<BIGINT>", [1, None], [1, None]),
    ("MAP<STRING,DOUBLE>", [("a", 1.5), ("b", None)], {"a": 1.5, "b": None}),
    ("STRUCT<x:BIGINT,y:ARRAY<DATETIME>>", {"x": 1, "y": [MOMENT]}, {"x": 1, "y": [MOMENT]}),
    ("JSON", '{"a": [1, null]}', {"a": [1, None]}),
]


@pytest.mark.slow
@pytest.mark.parametrize("through", ["tunnel", "sql"])
@pytest.mark.parametrize(("kind", "given_", "expected"), TYPES, ids=[t[0] for t in TYPES])
def test_each_type_has_its_python_value(
    server: OdpsServer, through: str, kind: str, given_: Any, expected: Any
) -> None:
    """The same through the table tunnel and through SQL, beside a null."""
    rows = [{"id": 1, "v": given_}, {"id": 2, "v": None}]
    server.add(Table("typed", {"id": "bigint", "v": kind.lower()}, {"": rows}))
    condition = {"where": "id > 0", "enableWhere": True} if through == "sql" else {}
    items = read_all(reader(server, table="typed", partition=[], column=["v"], **condition))
    assert [dict(i) for i in items] == [{"v": expected}, {"v": None}]
    assert type(items[0]["v"]) is type(expected)


def test_the_page_has_the_types_that_were_tested() -> None:
    """Each type with the Python type of its value."""
    rows = re.findall(r"^\| (`[A-Z].*?) \| `(\w[\w.]*)`", PAGE.read_text(), re.MULTILINE)
    told = {word: python for names, python in rows for word in re.findall(r"`(\w+)`", names)}
    tested: dict[str, str] = {}
    for kind, _, value in TYPES:
        python = type(value)
        name = python.__name__ if python.__module__ == "builtins" else (
            f"{python.__module__}.{python.__name__}"
        )  # fmt: skip
        tested.setdefault(re.split(r"[(<]", kind)[0], "object" if kind == "JSON" else name)
    assert told == tested


def test_an_instant_is_shown_in_the_steps_time_zone(server: OdpsServer) -> None:
    """It stays the same instant; TIMESTAMP_NTZ, which is none, stays as it is."""
    columns = {"a": "datetime", "b": "timestamp", "c": "timestamp_ntz"}
    row = {"a": MOMENT, "b": MICROS, "c": MICROS.replace(tzinfo=None)}
    server.add(Table("times", columns, {"": [row]}))
    of = {"table": "times", "partition": [], "column": ["*"]}
    (read,) = read_all(reader(server, **of, timezone="Asia/Shanghai"))
    assert (read["a"], read["b"], read["c"]) == (row["a"], row["b"], row["c"])
    assert read["a"].isoformat() == "2024-03-01T07:59:59.123000+08:00"
    assert read["b"].utcoffset() == datetime.timedelta(hours=8)
    assert read["c"].tzinfo is None


def test_what_is_finer_than_a_microsecond_is_cut_off(server: OdpsServer) -> None:
    """Python's datetime ends there; also before 1970 it goes to the earlier microsecond."""
    times = pa.array([1_999, -1], pa.timestamp("ns"))
    server.add(Table("fine", {"t": "timestamp_ntz"}, {"": Rows(pa.table({"t": times}))}))
    items = read_all(reader(server, table="fine", partition=[], column=["t"]))
    start = datetime.datetime(1970, 1, 1)
    assert [i["t"] - start for i in items] == [datetime.timedelta(microseconds=n) for n in (1, -1)]


def test_times_far_from_today_come_right_through_sql(server: OdpsServer) -> None:
    """64 bits of nanoseconds hold 1677 to 2262 only; the instance tunnel sends seconds."""
    kind = pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
    far = [datetime.datetime(1, 1, 1, tzinfo=UTC), datetime.datetime(9999, 12, 31, tzinfo=UTC)]
    sent = pa.array([{"sec": int(f.timestamp()), "nano": 0} for f in far], kind)
    held = Rows(pa.table({"id": [1, 2], "t": sent}))
    server.add(Table("far", {"id": "bigint", "t": "timestamp"}, {"": held}))
    of = reader(server, table="far", partition=[], column=["t"], where="id>0", enableWhere=True)
    assert [i["t"] for i in read_all(of)] == far


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sent", "reason", "raw"),
    [
        ("string", pa.array([b"\xff\xfe"]).view(pa.string()), "invalid-encoding", '"$bytes"'),
        ("date", pa.array([-719163], pa.int32()).cast(pa.date32()), "out-of-range", "-719163"),
        ("datetime", pa.array([-(10**15)], pa.timestamp("ms")), "out-of-range", "-10000000000"),
        ("array<date>", pa.array([[-719163]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())),
         "out-of-range", "list<"),
    ],
)  # fmt: skip
def test_a_value_that_python_can_not_hold_rejects_its_row_only(
    server: OdpsServer, kind: str, sent: Any, reason: str, raw: str
) -> None:
    """With the column, its origin and the record as far as it can be written down."""
    many = pa.concat_arrays([pa.nulls(2000, sent.type), sent, pa.nulls(10, sent.type)])
    held = Rows(pa.table({"id": range(2011), "v": many}))
    server.add(Table("odd", {"id": "bigint", "v": kind}, {"": held}))
    of = reader(server, table="odd", partition=[], column=["id", "v"])
    items = read_all(of)
    (reject,) = [i for i in items if isinstance(i, Reject)]
    assert items[2000] is reject
    assert (len(items), of.counts.values["rows-read"]) == (2011, 2011)
    assert (reject.reason, reject.origin) == (reason, "shop.odd:2000")
    assert "column 'v'" in reject.message
    assert '"id":2000' in str(reject.raw)
    assert raw in str(reject.raw)
    again = of.reread(str(reject.raw), reject.origin)
    assert isinstance(again, Reject)
    assert again.reason == "not-replayed"


def test_json_that_is_none_rejects_its_row_only(server: OdpsServer) -> None:
    """The server would not store it; what it sends is looked at all the same."""
    rows = [{"v": "{}"}, {"v": "{broken"}]
    server.add(Table("docs", {"v": "json"}, {"": rows}))
    good, bad = read_all(reader(server, table="docs", partition=[], column=["v"]))
    assert isinstance(good, Change)
    assert (bad.reason, bad.origin) == ("invalid-json", "shop.docs/sql:1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["interval_day_time", "interval_year_month", "array<interval_day_time>", "struct<j:json>"],
)
def test_types_that_can_not_be_read_are_refused_before_the_run(
    server: OdpsServer, kind: str
) -> None:
    """With the way out; where the job leaves the column out, the table is read."""
    table = server.add(Table("odd", {"id": "bigint"}, {"": [{"id": 1}]}))
    table.columns["v"] = kind
    of = {"table": "odd", "partition": []}
    with pytest.raises(JobError, match=r"column 'v' is of type .* leave it out"):
        reader(server, **of, column=["*"]).check()
    assert ids(read_all(reader(server, **of, column=["id"]))) == [1]


# --- through SQL


def test_a_condition_filters_the_partitions_rows(server: OdpsServer) -> None:
    """Not those of other partitions; a comment at its end does no harm."""
    of = reader(server, enableWhere=True, where="id % 2 = 1 -- odd ones", column=["id", "split"])
    items = read_all(of)
    assert ids(items) == list(range(1, ROWS, 2))
    assert {i["split"] for i in items} == {"dev"}
    assert items[1].origin == "shop.talks/sql:1"
    assert of.plan().size.rows == ROWS // 2
    assert server.count("query") == 1


def test_a_condition_that_is_switched_off_does_nothing(server: OdpsServer) -> None:
    """No query is run for it."""
    assert len(read_all(reader(server, where="id < 3"))) == ROWS
    assert server.count("query") == 0


def test_a_query_names_its_partitions_and_nothing_else_of_the_table(server: OdpsServer) -> None:
    """MaxCompute bills what a query scans."""
    read_all(reader(server, enableWhere=True, where="id = 1;", column=["sentence"]))
    (query,) = [i.query for i in server.instances.values()]
    assert " ".join(query.split()) == (
        "SELECT `sentence` FROM `shop`.`talks` WHERE ( (`split` = 'dev') ) AND ( id = 1 );"
    )


@pytest.mark.parametrize("kind", ["VIRTUAL_VIEW", "EXTERNAL_TABLE", "keyed"])
def test_what_the_table_tunnel_does_not_give_is_read_through_sql(
    server: OdpsServer, kind: str
) -> None:
    """Views, external tables and transactional tables with a primary key."""
    keyed = {"primary_key": ["id"]} if kind == "keyed" else {"kind": kind}
    server.add(Table("v", {"id": "bigint"}, {"": [{"id": 1}, {"id": 2}]}, **keyed))
    of = reader(server, table="v", partition=[], column=["id"])
    of.check()
    assert ids(read_all(of)) == [1, 2]


def test_a_wrong_condition_is_found_by_the_check(server: OdpsServer) -> None:
    """By an EXPLAIN, which reads nothing; the server's own words are shown."""
    of = reader(server, enableWhere=True, where="idd = 1")
    with pytest.raises(JobError, match="no such column: idd"):
        of.check()
    assert all(i.query.startswith("EXPLAIN") for i in server.instances.values())
    with pytest.raises(Exception, match="no such column: idd"):
        of.plan()


# --- preview, limits, commands


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: OdpsServer) -> Bench:
    """A job that reads `talks` and writes to Milvus Lite."""
    bench = Bench(tmp_path, capsys)
    bench.sources["MaxCompute"] = server.connection()
    reader_ = bench.job["steps"][0]
    reader_["stepType"] = "odps"
    reader_["parameter"] = {
        "datasource": "MaxCompute", "table": "talks", "partition": ["split=dev"],
        "column": ["id", "sentence"],
    }  # fmt: skip
    del bench.job["steps"][1]
    bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = ["sentence"]
    bench.step("Writer")["column"] = [
        {"name": "id", "type": "Int64", "primaryKey": True},
        {"name": "sentence", "type": "VarChar", "maxLength": "100"},
        {"name": "vector", "type": "FloatVector", "dimension": "64"},
    ]
    return bench


def test_a_preview_downloads_only_what_it_shows(bench: Bench, server: OdpsServer) -> None:
    """Rows that went out of the server, not only rows that were printed."""
    outcome = bench.call("preview", "--source", "--rows", "3", "--json")
    assert outcome.status == 0, outcome.err
    assert [r["id"] for r in outcome.json["steps"][0]["rows"]] == [0, 1, 2]
    assert server.rows_sent == 3


def test_an_estimate_counts_the_rows(bench: Bench) -> None:
    """All of them are read, none is embedded."""
    outcome = bench.call("check", "--estimate", "--json")
    assert (outcome.status, outcome.json["estimate"]["rows"]) == (0, ROWS)


@pytest.mark.slow
def test_a_limited_run_reads_no_more_than_its_limit(bench: Bench, server: OdpsServer) -> None:
    """``--limit`` is for trying a job on a few rows."""
    report = bench.run("--limit", "7")
    assert (report["rows_read"], report["rows_written"], server.rows_sent) == (7, 7, 7)


@pytest.mark.slow
def test_a_whole_run_outlives_what_goes_wrong(bench: Bench, server: OdpsServer) -> None:
    """Broken connections, sessions that expire, a quota that is refused: each row once."""
    bench.step("Reader").update(tunnelQuota="exclusive", maxSplitRows=600)
    server.session_requests = 5
    server.fail("data", "reset", times=2)
    server.fail("data", "quota", times=float("inf"), skip=2)
    report = bench.run()
    assert (report["state"], report["rows_read"], report["rows_written"]) == ("DONE", ROWS, ROWS)
    assert counts_add_up(report)


@pytest.mark.slow
def test_a_run_whose_server_stays_away_fails_and_rejects_no_row(
    bench: Bench, server: OdpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says what the server said; nothing printed holds the key."""
    monkeypatch.setattr(OdpsClient, "backoff", lambda self: Backoff(deadline=0.2))
    server.fail("data", "503", times=float("inf"))
    outcome = bench.call("run", "--json")
    assert (outcome.status, outcome.json["state"], outcome.json["rows_rejected"]) == (
        1,
        "FAILED",
        0,
    )
    assert "step 'Reader'" in outcome.json["error"]
    assert "ServiceUnavailable" in outcome.json["error"]
    assert "key-of-the-test" not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_check_that_connects_reads_no_row(bench: Bench, server: OdpsServer) -> None:
    """It opens a session, which proves the right to download."""
    assert bench.call("check", "--connect").status == 0
    assert (server.count("session"), server.rows_sent) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "parameter", "told"),
    [
        ({}, {"table": "talk"}, "project 'shop' has the name 'talk'; did you mean 'talks'"),
        ({}, {"column": ["id", "sentence", "sentense"]}, "'sentense'; did you mean 'sentence'"),
        ({}, {"partition": ["split=deb"]}, "did you mean 'split=dev'"),
        ({}, {"partition": ["splt=dev"]}, "no partition key 'splt'; did you mean 'split'"),
        ({"project": "shops"}, {}, "no project has the name 'shops'"),
        ({"accessKey": "key-that-is-wrong"}, {}, "correct accessId and accessKey"),
        ({"accessId": "id-that-is-wrong"}, {}, "correct accessId and accessKey"),
        ({"endpoint": "http://127.0.0.1:9/api"}, {}, "127.0.0.1:9"),
    ],
    ids=["table", "column", "partition", "partition key", "project", "key", "id", "endpoint"],
)
def test_what_is_wrong_is_told_by_the_check_without_a_secret(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, source: Any, parameter: Any, told: str
) -> None:
    """Exit status 2, with what to correct."""
    monkeypatch.setattr("vecferry.io.odps.source.CHECK_SECONDS", 0.5)
    bench.sources["MaxCompute"].update(source)
    bench.step("Reader").update(parameter)
    outcome = bench.call("check", "--connect")
    assert (outcome.status, told in outcome.err) == (2, True), outcome.err
    printed = outcome.out + outcome.err
    for secret in ("id-of-the-test", "key-of-the-test", "that-is-wrong"):
        assert secret not in printed


def test_a_missing_right_is_told_with_the_rights_that_are_needed(
    bench: Bench, server: OdpsServer
) -> None:
    """An administrator knows from it what to grant."""
    server.denied.add("talks")
    outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "Describe, Select and Download" in outcome.err


def test_a_temporary_key_is_sent_with_its_token(server: OdpsServer) -> None:
    """Without the token, or with a wrong one, the key is refused."""
    server.token = "token-of-the-test"
    with pytest.raises(JobError, match="correct accessId and accessKey"):
        reader(server).check()
    connection = server.connection(securityToken="token-of-the-test")
    assert len(read_all(reader(server, connection=connection))) == ROWS


def test_the_steps_project_wins_over_the_data_sources(server: OdpsServer) -> None:
    """A data source may serve several projects."""
    connection = server.connection(project="elsewhere")
    items = read_all(reader(server, connection=connection, project="shop"))
    assert items[0].origin == "shop.talks/split=dev:0"


# --- in Beam


@pytest.mark.slow
def test_the_transform_reads_in_a_plain_pipeline(server: OdpsServer) -> None:
    """Rows and rejects are two outputs."""
    read = ReadFromOdps(
        settings=OdpsSettings.model_validate(
            {"table": "talks", "partition": "split=dev", "column": ["id"], "maxSplitRows": 900}
        ),
        connection=OdpsConnection(**server.connection()),
    )
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        outputs = pipeline | read
        numbers = outputs.rows | beam.Map(lambda row: row["id"])
        assert_that(numbers, equal_to(range(ROWS)))
        assert_that(outputs.rejected, equal_to([]), label="no rejects")
