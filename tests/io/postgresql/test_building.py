"""The index of a table that is created, built once its rows are in: by this run or the next."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.io.postgresql.support import KEY, NUMBER, TEXT, Tables
from vecferry.errors import JobError
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.testing.sinks import rows, write

pytestmark = pytest.mark.service


class Loaded(Tables):
    """Tables whose load the launcher ends, as it does in a run."""

    def loading(self, *, prepared: bool = True, **more: Any) -> PostgresTarget:
        """A target of a run of its own."""
        target = self.unprepared(**more)
        write = dataclasses.replace(target.context.write, load_ends=True)
        target.context = dataclasses.replace(target.context, write=write)
        if prepared:
            target.prepare()
        return target

    def vectors(self, **more: Any) -> dict[str, Any]:
        """What a job says of its columns, where its vector is to be indexed otherwise."""
        return {"column": [KEY, TEXT, NUMBER, {**self.vector, **more}]}

    @property
    def indexes(self) -> list[str]:
        """The definitions of the table's indexes but for its key's."""
        asked = f"SELECT indexdef FROM pg_indexes WHERE tablename = '{self.table}' ORDER BY 1"
        found = [definition for (definition,) in self.ask(asked)]
        return [d.partition(" USING ")[2] for d in found if "UNIQUE" not in d]

    @property
    def comment(self) -> str:
        """What the table says of itself."""
        ((text,),) = self.ask("SELECT obj_description('@t'::regclass)")
        return str(text)


@pytest.fixture
def tables() -> Iterator[Loaded]:
    """A table's name of its own."""
    tables = Loaded("postgresql")
    yield tables
    tables.close()


USUAL = "hnsw (vector vector_cosine_ops)"


def test_the_index_is_built_once_the_rows_are_in(tables: Loaded) -> None:
    """With words on the way; the mark then says nothing of it any more."""
    target = tables.loading()
    written, _ = write(target, rows(300))
    assert (len(written), tables.indexes) == (300, [])
    left = target.unfinished()
    assert left is not None
    assert f'CREATE INDEX ON "{tables.table}" USING hnsw' in left
    told: list[str] = []
    (note,) = target.end_load(told.append)
    assert tables.indexes == [USUAL]
    assert note.startswith(f"built the index on 'vector' of table {tables.table!r} in ")
    assert all(text.startswith("building the index on 'vector'") for text in told)
    assert (target.unfinished(), "deferred" in tables.comment) == (None, False)
    assert target.end_load(told.append) == []


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"indexWhen": "before"}, [USUAL]),
        ({"indexWhen": "BEFORE", "schemaCreateMode": "recreate"}, [USUAL]),
        ({"resumed": True}, [USUAL]),
        ({"schemaCreateMode": "recreate"}, []),
        ({}, []),
    ],
)
def test_a_job_says_when_its_index_is_built(
    tables: Loaded, more: dict[str, Any], found: list[str]
) -> None:
    """A sync that has a position never leaves it for later."""
    target = tables.loading(**more)
    assert tables.indexes == found
    assert (target.unfinished() is None) == bool(found)


def test_a_pipeline_without_a_launcher_has_its_index_from_the_first_row(tables: Loaded) -> None:
    """Nobody would build it afterwards."""
    tables.target()
    assert tables.indexes == [USUAL]


def test_a_column_without_an_index_leaves_nothing_for_later(tables: Loaded) -> None:
    """indexType none, and more dimensions than pgvector indexes."""
    assert tables.loading(**tables.without_index()).unfinished() is None
    tables.execute("DROP TABLE @t")
    assert tables.loading(**tables.vectors(dimension=4000)).unfinished() is None


def test_rows_must_fit_the_index_that_is_yet_to_be_built(tables: Loaded) -> None:
    """A vector of length zero has no cosine; the table's own mark says how it compares."""
    tables.loading()
    plain = tables.loading(column=["id", "text", "number", "vector"], schemaCreateMode="ignore")
    zero = {**rows(1)[0], "vector": np.zeros(len(rows(1)[0]["vector"]), np.float32)}
    written, rejects = write(plain, [zero])
    assert (written, len(rejects)) == ([], 1)


@pytest.mark.parametrize(
    "later",
    [
        {},
        {"schemaCreateMode": "ignore", "column": ["id", "text", "number", "vector"]},
        {"indexWhen": "before"},
    ],
)
def test_the_next_run_builds_what_one_left(tables: Loaded, later: dict[str, Any]) -> None:
    """Also one whose job does not tell the columns; `before` builds it before the first row."""
    given = tables.vectors(indexParams={"m": 8, "ef_construction": 32}, metricType="L2")
    write(tables.loading(**given), rows(50))
    target = tables.loading(**({**given, **later}))
    target.end_load(lambda words: None)
    assert tables.indexes == ["hnsw (vector vector_l2_ops) WITH (m='8', ef_construction='32')"]
    assert "deferred" not in tables.comment


def test_an_index_that_somebody_built_by_hand_is_not_built_again(tables: Loaded) -> None:
    """As the run that was broken off told them to."""
    target = tables.loading()
    left = target.unfinished()
    assert left is not None
    tables.execute(left.partition("by hand: ")[2])
    target.end_load(lambda words: None)
    assert tables.indexes == [USUAL]


def test_two_runs_that_end_together_build_one_index(tables: Loaded) -> None:
    """The second waits, and finds it."""
    write(tables.loading(), rows(500))
    targets = [tables.loading() for _ in range(2)]
    failed: list[BaseException] = []

    def end(target: PostgresTarget) -> None:
        try:
            target.end_load(lambda words: None)
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=end, args=[target]) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, tables.indexes) == ([], [USUAL])


def test_a_build_that_is_broken_off_leaves_nothing_behind(tables: Loaded) -> None:
    """Neither an index nor a process of the server, and the next run builds it."""
    target = tables.loading()
    write(target, rows(50))

    def stop(words: str) -> None:
        raise KeyboardInterrupt

    with tables.server.client(autocommit=False) as other:
        other.execute(f'LOCK TABLE "{tables.table}" IN SHARE UPDATE EXCLUSIVE MODE')
        with pytest.raises(KeyboardInterrupt):
            target.end_load(stop)
        assert (
            tables.ask("SELECT 1 FROM pg_locks WHERE relation = '@t'::regclass AND NOT granted")
            == []
        )
    assert tables.indexes == []
    assert target.unfinished() is not None
    tables.loading().end_load(lambda words: None)
    assert tables.indexes == [USUAL]


def test_an_index_that_cant_be_built_is_told_with_its_statement(tables: Loaded) -> None:
    """The rows are in; the job ends FAILED, and says what is left."""
    target = tables.loading()
    write(target, rows(5))
    tables.execute("ALTER TABLE @t DROP COLUMN vector")
    tables.execute("ALTER TABLE @t ADD COLUMN vector vector")
    with pytest.raises(JobError, match="column does not have dimensions"):
        target.end_load(lambda words: None)
    assert "CREATE INDEX" in str(target.unfinished())


@pytest.mark.parametrize(
    "told",
    [
        '{"m = 8); DROP TABLE t; --": 8}',
        '{"m": "8); DROP TABLE t; --"}',
        '["m"]',
    ],
)
def test_a_mark_that_others_wrote_is_no_statement(tables: Loaded, told: str) -> None:
    """What stands there is a number under a word, or is passed over."""
    write(tables.loading(), rows(5))
    spoilt = tables.comment.replace('"indexParams":{}', f'"indexParams":{told}')
    assert told in spoilt
    quoted = spoilt.replace("'", "''")
    tables.execute(f"COMMENT ON TABLE @t IS '{quoted}'")
    plain = tables.loading(column=["id", "text", "number", "vector"], schemaCreateMode="ignore")
    plain.end_load(lambda words: None)
    assert tables.indexes == [USUAL]


def test_a_server_that_dies_in_a_build_is_waited_for(tables: Loaded) -> None:
    """The index is begun again."""
    target = tables.loading()
    write(target, rows(50))
    other = tables.server.client(autocommit=False)
    other.execute(f'LOCK TABLE "{tables.table}" IN SHARE UPDATE EXCLUSIVE MODE')
    killed: list[str] = []

    def kill(words: str) -> None:
        if not killed:
            killed.append(words)
            tables.kill()
            tables.start()

    target.end_load(kill)
    assert (len(killed), tables.indexes) == (1, [USUAL])
