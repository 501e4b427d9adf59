"""A folder that is followed and goes away: waited for, and no row is deleted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.folder import Papers, Tables
from tests.contracts.sync import Break
from tests.contracts.sync_memory import held
from tests.io.files.desk import Desk, Disk, Objects, source_of
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.io.files.followed import FollowedFiles
from vecferry.io.files.stores.base import NO_BUCKET, FileInfo, Listed
from vecferry.pipelines.run.sync import Step
from vecferry.positions import Position
from vecferry.positions.requests import Request
from vecferry.rows import Change, Reject
from vecferry.steps import Span

pytestmark = pytest.mark.slow


def read_all(source: FollowedFiles, span: Span) -> list[Change | Reject]:
    """What workers read of a span."""
    return [
        item for split in source.plan(replace(span, epoch=1)).splits for item in source.read(split)
    ]


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_folder_that_goes_away_is_waited_for_and_nothing_is_deleted(
    empty: bool, endpoint: EndpointServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With --continuous; what changed meanwhile is read once it is back."""
    papers = Papers(tmp_path, random.Random(1), 4)
    desk, disk = Desk(tmp_path, endpoint, papers), Disk(papers.folder, empty=empty)
    spans, before = [0], 0

    def on_step(step: Step) -> None:
        nonlocal before
        if step == "conclude" and not before:
            before = len(held(desk.name).there())
            disk.leave()
        if step != "span" or not before:
            return
        spans[0] += 1
        if spans[0] == 3:
            assert len(held(desk.name).there()) == before
            disk.come_back()
            papers._one("delete")
            papers._one("new")
        if spans[0] > 3 and not desk.wrong():
            raise Break(step)

    with pytest.raises(Break):
        desk.run(on_step=on_step, continuous=True)
    assert "begins again from the position" in caplog.text
    assert "nothing is deleted" in caplog.text


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
@pytest.mark.parametrize("full", [False, True], ids=["changes", "full load"])
def test_a_folder_that_goes_away_while_it_is_read_costs_no_row(
    full: bool, empty: bool, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Its files come back in the state that was listed, and are read all the same."""
    papers = Papers(tmp_path, random.Random(1), 6)
    desk, disk = Desk(tmp_path, endpoint, papers), Disk(papers.folder, empty=empty)
    desk.run()
    before = len(held(desk.name).there())
    steps: list[Step] = []
    papers._write("new.json", ["Paragraph new of many."])
    if full:
        desk.place.requests.ask(Request(kind="resync", asked_by="a test"))

    def on_step(step: Step) -> None:
        steps.append(step)
        if steps.count("round") == 1 and step == "round":
            disk.leave()
        if disk.parked.exists() and steps.count("span") == 3:
            assert len(held(desk.name).there()) == before
            disk.come_back()

    assert desk.run(on_step=on_step).state == "DONE"
    assert not disk.parked.exists()
    assert desk.wrong() == []


def test_a_folder_that_goes_away_before_rows_are_reconciled_costs_no_row(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """All keys of the source are read once more then, in a target without versions."""
    papers = Papers(tmp_path, random.Random(1), 4)
    disk = Disk(papers.folder, empty=True)
    desk = Desk(tmp_path, endpoint, papers, versions=False)
    desk.run()
    desk.place.requests.ask(Request(kind="resync", asked_by="a test"))
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if step == "reconcile" and steps.count(step) == 1:
            disk.leave()
        if disk.parked.exists() and step == "span":
            assert held(desk.name).there()
            disk.come_back()

    assert desk.run(on_step=on_step).state == "DONE"
    assert steps.count("reconcile") > 1
    assert desk.wrong() == []


@pytest.mark.parametrize("allowed", [False, True])
def test_a_folder_of_a_bucket_that_has_no_object_any_more(allowed: bool, tmp_path: Path) -> None:
    """It is waited for; where its rows may go, they go, as no bucket has a folder without one."""
    tables = Tables(tmp_path, random.Random(1), 0)
    source = source_of(tmp_path, tables, object="*", mayBeEmptied=allowed)
    store = Objects({"1.csv": (b"1,text", '"1"')})
    store.keeps_empty_folders = False
    source._store = store
    position = Position(epoch=1, identity="", phase="changes", at=source.end())
    store.there.clear()
    source._seen = None
    if allowed:
        (split,) = source.plan(replace(source.span(position), epoch=1)).splits
        assert split.gone == ("1.csv",)
        return
    with pytest.raises(TransientError, match="nothing is deleted"):
        source.span(position)


def test_a_bucket_that_is_gone_is_waited_for_if_it_was_there(tmp_path: Path) -> None:
    """At the start its name is wrong; later it may come back."""
    source = source_of(tmp_path, Tables(tmp_path, random.Random(1), 0), object="*")
    store = source._store = Objects({"1.csv": (b"1,text", '"1"')})
    listed = store._list

    def gone(folder: str, head: str, deep: bool) -> Iterator[Listed]:
        raise FatalError("the bucket does not exist", NO_BUCKET)

    store._list = gone  # type: ignore[method-assign]
    with pytest.raises(FatalError, match="does not exist"):
        source.span(None)
    store._list = listed  # type: ignore[method-assign]
    position = Position(epoch=1, identity="", phase="changes", at=source.end())
    store._list, source._seen = gone, None  # type: ignore[method-assign]
    with pytest.raises(TransientError, match=r"does not exist; nothing is deleted"):
        source.span(position)


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
@pytest.mark.parametrize("again", [False, True], ids=["one process", "another process"])
def test_files_of_a_pattern_that_are_away_while_they_are_read_are_not_left_for_good(
    again: bool, empty: bool, tmp_path: Path
) -> None:
    """They come back in the state that was listed, so that no later listing tells of them."""
    tables = Tables(tmp_path, random.Random(1), 0)
    for folder in ("near", "far"):
        (tables.folder / folder).mkdir()
        tables._write(f"{folder}/1.csv", ["Paragraph one of many."])
    given = {"object": ["near/*", "far/*"], "successOnNoFile": True}
    source = source_of(tmp_path, tables, **given)
    span = source.span(None)
    disk = Disk(tables.folder / "far", empty=empty)
    disk.leave()
    if again:
        source = source_of(tmp_path, tables, **given)
        source.check()
    with pytest.raises(TransientError, match="nothing is deleted"):
        read_all(source, span)
    disk.come_back()
    assert len(read_all(source, span)) == 2


@pytest.mark.parametrize("deleted", [False, True], ids=["back", "deleted"])
def test_a_file_that_is_away_for_a_moment_is_read_once_more(deleted: bool, tmp_path: Path) -> None:
    """A file that is deleted is left, as its folder has others."""
    tables = Tables(tmp_path, random.Random(1), 0)
    for number in range(2):
        tables._write(f"{number}.csv", ["Paragraph one of many."])
    source = source_of(tmp_path, tables)
    span = source.span(None)
    seen, info = [], source._store.info

    def looked(path: str) -> FileInfo:
        seen.append(path)
        if path == "0.csv" and (deleted or seen.count(path) == 1):
            raise FileNotFoundError(path)
        return info(path)

    source._store.info = looked  # type: ignore[method-assign]
    if deleted:
        assert len(read_all(source, span)) == 1
        return
    with pytest.raises(TransientError, match=r"0\.csv was away while it was read"):
        read_all(source, span)
    assert len(read_all(source, span)) == 2


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("again", [False, True], ids=["one process", "another process"])
def test_keys_are_not_told_where_a_pattern_matches_nothing_any_more(
    again: bool, allowed: bool, tmp_path: Path
) -> None:
    """Whoever reconciles would delete the rows of all its files."""
    tables = Tables(tmp_path, random.Random(1), 0)
    for folder in ("near", "far"):
        (tables.folder / folder).mkdir()
        tables._write(f"{folder}/1.csv", ["Paragraph one of many."])
    given = {"object": ["near/*", "far/*"], "mayBeEmptied": allowed}
    source = source_of(tmp_path, tables, **given)
    source.span(None)
    assert sum(len(split.files) for split in source.plan().splits) == 2
    Disk(tables.folder / "far", empty=True).leave()
    if again:
        source = source_of(tmp_path, tables, **given)
    if allowed:
        assert sum(len(split.files) for split in source.plan().splits) == 1
        return
    with pytest.raises(JobError if again else TransientError, match="nothing is deleted"):
        source.plan()
