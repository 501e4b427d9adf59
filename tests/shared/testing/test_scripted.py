"""The scripted source: what it tells of its table is what happened there, wherever it is read."""

from __future__ import annotations

import datetime
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vecferry.errors import FatalError, JobError, TransientError
from vecferry.positions import Position
from vecferry.rows import DELETE, Change
from vecferry.steps import Span, StepContext
from vecferry.testing.scripted import ScriptedSettings, ScriptedSource, ScriptedTable
from vecferry.versions import unpack


def source(table: ScriptedTable, **more: Any) -> ScriptedSource:
    """The source of a table, in a run of its own."""
    settings = ScriptedSettings(path=str(table.folder), **more)
    return ScriptedSource(settings, None, StepContext(step="Read", step_type="scripted"))


@pytest.fixture
def table(tmp_path: Path) -> ScriptedTable:
    """An empty table."""
    return ScriptedTable(tmp_path / "table")


def row(key: str, text: str = "a text") -> dict[str, str]:
    return {"id": key, "text": text}


def after(span: Span, identity: str = "scripted") -> Position:
    return Position(epoch=1, identity=identity, phase=span.phase, at=span.until)


def changed(read: ScriptedSource, span: Span) -> list[tuple[str, str, str | None]]:
    """The rows of a span, each split read by another source: row kind, key, text."""
    found = []
    for split in pickle.loads(pickle.dumps(read.plan(span).splits)):
        for item in ScriptedSource(read.settings, None, read.context).read(split):
            assert isinstance(item, Change)
            found.append((item.kind, item["id"], item.get("text")))
    return found


def test_each_thing_that_happens_is_a_change_in_its_order(table: ScriptedTable) -> None:
    """A change of a key is a delete and an insert, a truncation a delete of each row."""
    read = source(table)
    position = after(read.span(None))
    table.insert(row("a"))
    table.update(row("a", "another"))
    table.move("a", row("b", "moved"))
    table.insert(row("c"))
    table.delete("c")
    table.insert(row("d"))
    table.truncate()
    assert changed(read, read.span(position)) == [
        ("+I", "a", "a text"),
        ("+U", "a", "another"),
        ("-D", "a", None),
        ("+I", "b", "moved"),
        ("+I", "c", "a text"),
        ("-D", "c", None),
        ("+I", "d", "a text"),
        ("-D", "b", None),
        ("-D", "d", None),
    ]


def test_a_full_load_gives_all_rows_in_parts_and_changes_between_them(
    table: ScriptedTable,
) -> None:
    """The parts are disjoint, and what happens while they are read is read as changes."""
    for n in range(50):
        table.insert(row(f"r{n}"))
    read = source(table, parts=3)
    position, seen, kinds = None, [], []
    while (span := read.span(position)).kind != "nothing":
        kinds.append(span.kind)
        seen += changed(read, span)
        position = after(span)
        if len(kinds) == 1:
            table.insert(row("new"))
    assert kinds == ["full", "changes", "full", "full"]
    keys = [key for _, key, _ in seen]
    assert set(keys) == {*(f"r{n}" for n in range(50)), "new"}
    assert {key for key in keys if keys.count(key) > 1} <= {"new"}
    assert position is not None
    assert position.phase == "changes"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_applied_in_the_order_of_versions_is_the_table(
    table: ScriptedTable, seed: int
) -> None:
    """However the spans are bounded, and though the table changes while parts are read."""
    chance = random.Random(seed)
    for n in range(chance.randrange(40)):
        table.insert(row(f"k{n}"))
    read = source(table, parts=chance.randrange(1, 5), round_rows=chance.randrange(1, 20))
    held: dict[str, tuple[int, str, str | None]] = {}
    position = None
    for _ in range(12):
        span = read.span(position)
        plan = read.plan(span) if span.kind != "nothing" else None
        for _ in range(chance.randrange(6)):
            something(table, chance)
        if plan is None:
            continue
        for item in (item for split in plan.splits for item in read.read(split)):
            assert isinstance(item, Change)
            assert item.version is not None
            if item.version >= held.get(item["id"], (0,))[0]:
                held[item["id"]] = (item.version, item.kind, item.get("text"))
        position = after(span)
    while (span := read.span(position)).kind != "nothing":
        for item in (item for split in read.plan(span).splits for item in read.read(split)):
            assert isinstance(item, Change)
            assert item.version is not None
            if item.version >= held.get(item["id"], (0,))[0]:
                held[item["id"]] = (item.version, item.kind, item.get("text"))
        position = after(span)
    rows = {key: text for key, (_, kind, text) in held.items() if kind != DELETE}
    assert rows == {key: r["text"] for key, r in table.rows().items()}


def something(table: ScriptedTable, chance: random.Random) -> None:
    """One thing that may happen to a table of keys k0, k1, …"""
    there = sorted(table.rows())
    key, text = f"k{chance.randrange(60)}", f"text {chance.randrange(1000)}"
    what = chance.random()
    if key not in there:
        table.insert(row(key, text))
    elif what < 0.4:
        table.update(row(key, text))
    elif what < 0.7:
        table.delete(key)
    elif what < 0.98:
        table.move(chance.choice(there), row(f"m{chance.randrange(10**9)}", text))
    else:
        table.truncate()


def test_versions_are_of_the_epoch_of_the_span(table: ScriptedTable) -> None:
    """A row of a full load has the version of the low watermark, a later change a greater one."""
    table.insert(row("a"))
    read = source(table)
    first = read.span(None)
    table.update(row("a", "meanwhile"))
    (split,) = read.plan(Span(**{**vars(first), "epoch": 7})).splits
    (whole,) = read.read(split)
    table.update(row("a", "later"))
    span = read.span(after(first))
    _, later = read.read(read.plan(Span(**{**vars(span), "epoch": 7})).splits[0])
    assert isinstance(whole, Change)
    assert isinstance(later, Change)
    assert whole["text"] == "meanwhile"
    assert unpack(whole.version or 0)[0] == unpack(later.version or 0)[0] == 7
    assert (whole.version or 0) < (later.version or 0)


def test_several_streams_give_the_same_rows_and_keep_the_order_of_a_key(
    table: ScriptedTable,
) -> None:
    """All changes of a key are in one split."""
    position = after(source(table).span(None))
    for n in range(60):
        table.insert(row(f"k{n % 7}", str(n)))
    read = source(table, streams=3)
    plan = read.plan(read.span(position))
    splits = [list(read.read(split)) for split in plan.splits]
    assert sum(map(len, splits)) == plan.size.rows == 60
    assert len([s for s in splits if s]) > 1
    for split in splits:
        numbers = [int(item["text"]) for item in split if isinstance(item, Change)]
        assert numbers == sorted(numbers)
    keys = [{item["id"] for item in split if isinstance(item, Change)} for split in splits]
    assert sum(map(len, keys)) == 7


def test_a_span_ends_at_its_bound_and_where_the_user_says(table: ScriptedTable) -> None:
    """`roundRows` entries at most, nothing beyond `until`, nothing where nothing is left."""
    read = source(table, round_rows=2)
    position = after(read.span(None))
    for n in range(5):
        table.insert(row(f"r{n}"))
    end = read.end()
    table.insert(row("beyond"))
    counts = []
    while (span := read.span(position, end)).kind != "nothing":
        counts.append(read.plan(span).size.rows)
        position = after(span)
    assert counts == [2, 2, 1]
    assert read.lag(position).amount == 1
    assert read.span(position).kind == "changes"


def test_a_place_is_named_by_a_number_or_a_time(table: ScriptedTable) -> None:
    """What stood there before a moment; words that are neither are refused with examples."""
    read = source(table)
    table.insert(row("a"))
    before = read.end()
    moment = datetime.datetime.now(datetime.UTC)
    table.insert(row("b"))
    assert read.parse_until(moment.isoformat()) == before
    assert read.parse_until("17") == {"offset": 17}
    with pytest.raises(JobError, match="neither a place in the log nor a time"):
        read.parse_until("yesterday")


def test_a_position_beyond_the_end_leads_to_a_fresh_span(table: ScriptedTable) -> None:
    """The log was made anew: what the position says is of another one."""
    position = Position(epoch=1, identity="scripted", phase="changes", at={"offset": 5000})
    span = source(table).span(position)
    assert (span.kind, span.fresh) == ("full", True)
    assert "ends before the place 5000" in span.why


def test_the_source_behaves_as_it_is_told(table: ScriptedTable) -> None:
    """Away, failing, another one, cut off, short; also as a source elsewhere sees it."""
    for n in range(5):
        table.insert(row(f"r{n}"))
    read = source(table)
    splits = read.plan().splits
    table.tell(identity="another")
    assert read.identity() == "another"
    table.tell(breaks_after=3)
    rows = read.read(splits[0])
    assert [next(rows) for _ in range(3)]
    with pytest.raises(TransientError, match="broke"):
        next(rows)
    table.tell(breaks_after=None, leaves_out=2)
    assert len(list(read.read(splits[0]))) == 3
    table.tell(away=True)
    with pytest.raises(TransientError, match="away"):
        read.span(None)
    with pytest.raises(JobError, match="away"):
        read.check()
    table.tell(away=None, fatal="no right to read")
    with pytest.raises(FatalError, match="no right"):
        next(read.read(splits[0]))


@pytest.mark.slow
def test_processes_write_beside_each_other(table: ScriptedTable) -> None:
    """Each transaction is one append; a line that is not finished is not read yet."""
    code = (
        "import sys; from vecferry.testing.scripted import ScriptedTable\n"
        "t = ScriptedTable(sys.argv[1])\n"
        "for n in range(200): t.insert({'id': f'{sys.argv[2]}{n}', 'text': 'x' * 300})"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(table.folder), name]) for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(table.rows()) == 400
    end = table.end()
    with (table.folder / "log.jsonl").open("a") as log:
        log.write('{"op": "truncate"')
    assert table.end() == end
    assert len(table.rows()) == 400


def test_rows_of_keys_are_fetched_as_they_stood(table: ScriptedTable) -> None:
    """At a position or now; what is absent is left out."""
    read = source(table)
    table.insert(row("a", "old"))
    position = after(read.span(None))
    table.update(row("a", "new"))
    keys = [("a",), ("b",)]
    assert [r["text"] for r in read.fetch(keys, position)] == ["old"]
    assert [r["text"] for r in read.fetch(keys, None)] == ["new"]
