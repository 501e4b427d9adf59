"""A folder kept in step with a target in memory: documents, rows of files, guards, requests."""

from __future__ import annotations

import json
import os
import random
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.folder import Papers, Tables
from tests.contracts.sync import Break, embedded
from tests.contracts.sync_memory import held
from tests.effort import some
from tests.io.files.desk import Desk, Objects, source_of
from tests.services.redis_server import RedisServer
from tests.services.server import running
from tests.services.versitygw import ACCESS_KEY, REGION, SECRET_KEY, Versitygw
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError, TransientError
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.run.sync import Step
from vecferry.positions import Position
from vecferry.positions.requests import Request
from vecferry.rows import DELETE

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


KINDS = {"json": Papers, "csv": Tables}


@pytest.mark.parametrize("seed", some(range(120), 4))
def test_a_folder_that_is_edited_all_the_time_comes_to_be_as_a_fresh_load(
    seed: int, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Broken off at any step, with versions and without; each new chunk is paid for once."""
    chance = random.Random(seed)
    papers = KINDS["json" if seed % 2 else "csv"](tmp_path, chance, 12)
    desk = Desk(tmp_path, endpoint, papers, versions=seed % 4 < 2, round_files=5)
    left = [0]

    def on_step(step: Step) -> None:
        if chance.random() < 0.3:
            papers.edit(chance.randrange(1, 4))
        left[0] -= 1
        if left[0] == 0:
            raise chance.choice([Break(step), TransientError(f"away at {step}")])

    for _ in range(4):
        left[0] = chance.randrange(1, 30)
        with suppress(Break):
            desk.run(on_step=on_step, until="now")
    assert desk.run().state == "DONE"
    assert desk.wrong() == []
    inputs = embedded(endpoint)
    assert len(inputs) == len(set(inputs))


def test_a_table_that_becomes_shorter_leaves_no_row_behind(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Five rows, then two, then none; a row in the middle goes; a file without rows is gone."""
    papers = Tables(tmp_path, random.Random(1), 1)
    desk = Desk(tmp_path, endpoint, papers)
    (path,) = papers.paths()

    def keys(*texts: str) -> list[str]:
        (papers.folder / path).write_text(papers.content(list(texts)))
        assert desk.run().state == "DONE"
        assert desk.wrong() == []
        return sorted(row["chunk"] for row in held(desk.name).there().values())

    assert len(keys(*(f"row number {n}" for n in range(5)))) == 5
    assert keys("row number 0", "row number 3") == ["row number 0", "row number 3"]
    assert keys("row number 3") == ["row number 3"]
    assert keys() == []
    assert len(embedded(endpoint)) == len(set(embedded(endpoint)))


def test_a_file_that_is_moved_costs_no_request(endpoint: EndpointServer, tmp_path: Path) -> None:
    """Nor one that is only touched, or put into a folder of its own; its chunks move with it."""
    papers = Papers(tmp_path, random.Random(1), 5)
    desk = Desk(tmp_path, endpoint, papers)
    desk.run()
    paid = len(embedded(endpoint))
    first, second, *_ = papers.paths()
    (papers.folder / "away").mkdir()
    (papers.folder / first).rename(papers.folder / "away" / "moved.json")
    os.utime(papers.folder / second)
    report = desk.run()
    assert desk.wrong() == []
    assert len(embedded(endpoint)) == paid
    assert report.rows_deleted == 1
    assert {row["path"] for row in held(desk.name).there().values()} == set(papers.paths())


def test_a_run_without_changes_does_nothing(endpoint: EndpointServer, tmp_path: Path) -> None:
    """No round, and nothing is written beside the positions."""
    papers = Papers(tmp_path, random.Random(1), 9)
    desk = Desk(tmp_path, endpoint, papers)
    desk.run()
    kept = sorted(desk.place.place.names("files-"))
    report = desk.run()
    assert (report.state, report.rounds, report.rows_read) == ("DONE", 0, 0)
    assert sorted(desk.place.place.names("files-")) == kept


def test_a_folder_that_is_not_there_or_empty_deletes_nothing(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """The words name the folder and the way out; with permission the rows go."""
    papers = Papers(tmp_path, random.Random(1), 4)
    desk = Desk(tmp_path, endpoint, papers)
    desk.set(successOnNoFile=True)
    desk.run()
    there = held(desk.name).there()
    away = tmp_path / "away"
    papers.folder.rename(away)
    with pytest.raises(JobError, match=r"papers' does not exist"):
        desk.run()
    papers.folder.mkdir()
    with pytest.raises(JobError, match="mayBeEmptied"):
        desk.run()
    desk.place.requests.ask(Request(kind="resync", asked_by="a test"))
    with pytest.raises(JobError, match="mayBeEmptied"):
        desk.run()
    assert held(desk.name).there() == there
    desk.set(mayBeEmptied=True)
    assert desk.run().state == "DONE"
    assert held(desk.name).there() == {}
    papers.folder.rmdir()
    away.rename(papers.folder)
    desk.run()
    assert desk.wrong() == []


def test_one_of_two_patterns_that_matches_nothing_any_more_deletes_nothing(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Though the other one has files."""
    papers = Papers(tmp_path, random.Random(1), 0)
    for name in ("a/x.json", "b/y.json"):
        papers._write(name, ["Paragraph one of many."])
    desk = Desk(tmp_path, endpoint, papers)
    desk.set(object=["a/*", "b/*"])
    desk.run()
    shutil.rmtree(papers.folder / "b")
    with pytest.raises(JobError, match=r"'b/\*'"):
        desk.run()
    assert len(held(desk.name).there()) == 2


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_round(
    endpoint: EndpointServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was listed is never mixed with what came later."""
    papers = Papers(tmp_path, random.Random(1), 3)
    desk = Desk(tmp_path, endpoint, papers)
    path = papers.paths()[1]
    parts = papers.read(path)

    def on_step(step: Step) -> None:
        if step == "round" and papers.read(path) == parts:
            papers._write(path, [*parts, "Paragraph late of many."])

    assert desk.run(on_step=on_step).rounds == 2
    assert desk.wrong() == []
    assert f"left for the next round: {path}" in caplog.text


def test_a_damaged_file_is_rejected_and_its_old_rows_go(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """The others are read; once it is mended it is read as well."""
    papers = Papers(tmp_path, random.Random(1), 3)
    desk = Desk(tmp_path, endpoint, papers, errorLimit={})
    desk.run()
    path = papers.paths()[0]
    content = (papers.folder / path).read_text()
    (papers.folder / path).write_text(content[:-4])
    report = desk.run()
    assert [(r.reason, r.rows) for r in report.rejected_by] == [("unreadable-file", 1)]
    assert path not in {row["path"] for row in held(desk.name).there().values()}
    (papers.folder / path).write_text(content)
    desk.run()
    assert desk.wrong() == []


def test_a_file_of_several_rows_is_not_taken_for_one_document(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """It is rejected with what to do; not its last row alone is there."""
    papers = Papers(tmp_path, random.Random(1), 2)
    desk = Desk(tmp_path, endpoint, papers, errorLimit={})
    (papers.folder / "two.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}]))
    report = desk.run()
    assert [r.reason for r in report.rejected_by] == ["several-rows"]
    assert "two.json" not in {row["path"] for row in held(desk.name).there().values()}


@pytest.mark.parametrize("versions", [True, False])
def test_a_resync_a_reset_and_a_range(
    versions: bool, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """All is read again from the files, without a request to the endpoint."""
    papers = Papers(tmp_path, random.Random(1), 20)
    desk = Desk(tmp_path, endpoint, papers, versions=versions)
    desk.run()
    paid = len(embedded(endpoint))
    held(desk.name).rows.clear()
    first, *_, last = sorted(papers.paths())
    given = {"first": first, "last": last}
    desk.place.requests.ask(Request(kind="resync", arguments=given, asked_by="a test"))
    desk.run()
    assert desk.wrong() == []
    for kind in ("resync", "reset"):
        papers._one("delete")
        desk.place.requests.ask(Request(kind=kind, asked_by="a test"))
        assert desk.run().state == "DONE"
        assert desk.wrong() == []
    assert len(embedded(endpoint)) == paid


def test_a_list_of_files_that_is_gone_is_told(endpoint: EndpointServer, tmp_path: Path) -> None:
    """All is read anew if the job owns its target; otherwise the way out is named."""
    papers = Papers(tmp_path, random.Random(1), 5)
    desk = Desk(tmp_path, endpoint, papers)
    desk.run()
    for name in desk.place.place.names("files-block-"):
        desk.place.place.remove(name)
    papers._one("delete")
    report = desk.run()
    assert any("the list of the files that were read is gone" in note for note in report.notes)
    assert desk.wrong() == []


def refused(desk: Desk, *steps: dict[str, Any], writer: dict[str, Any] | None = None) -> str:
    """What is said of a job whose reader and writer are changed."""
    job = json.loads(desk.job.read_text())
    job["steps"][-1]["parameter"].update(writer or {})
    job["steps"][1:-1] = list(steps) or job["steps"][1:-1]
    desk.job.write_text(json.dumps(job))
    with pytest.raises(JobError) as caught:
        read_and_resolve(str(desk.job), data_sources=str(desk.sources))
    return "\n".join(caught.value.problems)


def test_what_can_not_be_right_is_refused_by_name(endpoint: EndpointServer, tmp_path: Path) -> None:
    """Before anything runs."""
    from vecferry.pipelines import registry

    for kind in sync_memory.KINDS:
        registry.register(kind)

    def fresh(kind: type[Papers]) -> Desk:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        return Desk(folder, endpoint, kind(folder, random.Random(1), 1))

    desk = fresh(Tables)
    desk.set(column=[{"name": "chunk", "index": 0}])
    assert "needs a column that names the file" in refused(desk)
    desk = fresh(Tables)
    assert "has no parentKey path" in refused(desk, writer={"parentKey": []})
    desk = fresh(Tables)
    assert "make the id of chunk_id" in refused(desk, writer={"key": "own"})
    desk = fresh(Tables)
    assert "many rows in a file" in refused(desk, writer={"key": "path", "parentKey": []})
    desk = fresh(Papers)
    steps = json.loads(desk.job.read_text())["steps"][1:-1]
    steps[0]["parameter"] = {**steps[0]["parameter"], "parentColumns": ["text2"]}
    assert "make parentColumns path" in refused(desk, *steps)
    desk = fresh(Papers)
    desk.set(object="-", datasource=None)
    assert "standard input" in refused(desk)
    desk = fresh(Tables)
    desk.set(column=[{"name": "path", "from": "fileName"}, {"name": "chunk_id", "index": 0}])
    assert "rename yours" in refused(desk)


def test_the_lag_is_told_in_files_and_until_knows_now_alone(tmp_path: Path) -> None:
    """As it was found by the last listing, less what rounds have read since."""
    papers = Tables(tmp_path, random.Random(1), 8)
    source = source_of(tmp_path, papers)
    at = source.end()
    position = Position(epoch=1, identity="", phase="changes", at=at)
    assert source.span(position, at).kind == "nothing"
    assert source.lag(position).amount is None
    for path in papers.paths()[:5]:
        (papers.folder / path).unlink()
    source = source_of(tmp_path, papers)
    span = source.span(position)
    assert (source.lag(position).amount, source.lag(position).unit) == (5, "files")
    after = replace(position, at=span.until)
    assert source.lag(after).amount == 2
    assert [len(split.gone) for split in source.plan(replace(span, epoch=1)).splits] == [3]
    last = source.span(after)
    assert last.until["files"] == 3
    ended = replace(position, at=last.until)
    assert source_of(tmp_path, papers).span(ended).kind == "nothing"
    assert source.parse_until("now")["files"] == 3
    with pytest.raises(JobError, match="write now"):
        source.parse_until("2026-11-29T12:00:00")


def test_a_folder_is_read_once_as_a_full_load_reads_it(tmp_path: Path) -> None:
    """Without a sync: all rows with their numbers, whatever happens to files meanwhile."""
    papers = Tables(tmp_path, random.Random(1), 8)
    source = source_of(tmp_path, papers)
    splits = source.plan().splits
    first, second, *_ = papers.paths()
    papers._write(first, ["Paragraph new of many."])
    (papers.folder / second).unlink()
    rows = [row for split in splits for row in source.read(split)]
    assert {row["chunk_id"]: row["chunk"] for row in rows} == papers.expected()
    assert all(row["chunk_count"] > row["chunk_index"] for row in rows)


def test_a_row_that_is_asked_for_by_its_key_is_read(tmp_path: Path) -> None:
    """As the file has it now; of a file that is gone there is none."""
    papers = Tables(tmp_path, random.Random(1), 4)
    source = source_of(tmp_path, papers)
    (key, text), *_ = papers.chunks()
    found = list(source.fetch([(key,), ("gone.csv#0",)], None))
    assert [(row["chunk_id"], row["chunk"]) for row in found] == [(key, text)]


@pytest.mark.long
@pytest.mark.service
@pytest.mark.parametrize("kind", ["redis", "s3"])
def test_positions_may_be_kept_elsewhere(
    kind: str, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """In Redis and in a bucket, the list of files among them."""
    name = uuid.uuid4().hex
    papers = Papers(tmp_path, random.Random(1), 30)
    where = f"{running(RedisServer).uri}/{name}" if kind == "redis" else f"s3://bucket/{name}"
    desk = Desk(tmp_path, endpoint, papers, positions=where)
    if kind == "s3":
        sources = json.loads(desk.sources.read_text())
        server = running(Versitygw)
        sources["Bucket"] = {
            "type": "s3",
            "endpoint": server.url,
            "region": REGION,
            "bucket": server.bucket,
            "accessKeyId": ACCESS_KEY,
            "accessKeySecret": SECRET_KEY,
            "pathStyle": True,
        }
        desk.sources.write_text(json.dumps(sources))
    for _ in range(3):
        assert desk.run().state == "DONE"
        assert desk.wrong() == []
        papers.edit(10)
    assert not (tmp_path / "positions").exists()


def test_an_object_is_read_in_the_version_that_was_listed_or_left(tmp_path: Path) -> None:
    """One that changed, and one that went, are left; the next listing brings both."""
    source = source_of(tmp_path, Tables(tmp_path, random.Random(1), 0), object="*")
    there = {f"{n}.csv": (f"{n},text {n}\n".encode(), f'"{n}"') for n in range(4)}
    store = Objects(there)
    source._store = store
    span = source.span(None)
    splits = source.plan(replace(span, epoch=1)).splits
    there["1.csv"] = (b"1,newer\n1,longer\n", '"new"')
    del there["2.csv"]
    whole = [row for split in splits for row in source.read(split)]
    assert [row["chunk_id"] for row in whole] == ["0.csv#0"]
    assert span.part == (0, 2)
    position = Position(epoch=1, identity="", phase="full", at=span.until)
    rows: dict[str, str] = {row["chunk_id"]: row["chunk"] for row in whole}
    while (span := source.span(position)).kind != "nothing":
        for split in source.plan(replace(span, epoch=1)).splits:
            for row in source.read(split):
                if row.kind == DELETE:
                    rows = {k: v for k, v in rows.items() if not k.startswith(row["path"])}
                else:
                    rows[row["chunk_id"]] = row["chunk"]
        position = replace(position, at=span.until, phase=span.phase)
    expected = {"0.csv#0": "text 0", "1.csv#0": "newer", "1.csv#1": "longer", "3.csv#0": "text 3"}
    assert rows == expected
