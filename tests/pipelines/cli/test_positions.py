"""``vecferry status`` and ``vecferry position``: what is shown of a sync, and what is set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench
from tests.pipelines.sync_place import Place
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines.cli.app import run_line
from vecferry.positions.entries import Progress
from vecferry.positions.holder import Holder


class Line:
    """A command line over one sync."""

    def __init__(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self._capsys = place, capsys

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """The exit status, and what was printed on both streams."""
        self._capsys.readouterr()
        status = run_line(list(arguments))
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        status, out, err = self.call(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Line]:
    """A sync of three rows that has run once."""
    with EndpointServer() as endpoint:
        place = Place(tmp_path, endpoint)
        place.insert("a", "b", "c")
        assert place.run().state == "DONE"
        yield Line(place, capsys)


@pytest.mark.slow
def test_a_sync_that_ended_well_is_scheduled(line: Line) -> None:
    """The job and the folder of its positions name the same sync."""
    of_job = line.json("status", str(line.place.job()))
    assert of_job == line.json("status", str(line.place.folder / "positions"))
    assert (of_job["state"], of_job["job"], of_job["holder"]) == ("Scheduled", "kept", None)
    assert of_job["position"]["at"] == line.place.position()
    assert of_job["counts"]["rows-read"] == 3
    assert (of_job["last_run"]["status"], of_job["progress"]["last_error"]) == (0, "")
    status, out, _ = line.call("status", str(line.place.job()))
    assert status == 0
    assert out.startswith("Scheduled")
    assert str(of_job["position"]["at"]["offset"]) in out


@pytest.mark.slow
def test_a_sync_that_runs_is_shown_beside_it_and_left_alone(line: Line) -> None:
    """What the holder tells is seen."""
    job = str(line.place.job())
    with line.place.positions.take(Holder(run="night")) as lease:
        lease.tell(Progress(phase="changes", behind=7, unit="changes", last_error="was away"))
        lease.renew()
        shown = line.json("status", job)
        assert (shown["state"], shown["holder"]["run"]) == ("Running", "night")
        assert (shown["progress"]["behind"], shown["progress"]["unit"]) == (7, "changes")
        told = line.call("status", job)[1]
        assert "7 changes" in told
        assert "was away" in told
        assert "loaded" not in told
        load = {"loaded": 1200, "load_size": 4800, "load_unit": "rows", "load_seconds": 75.0}
        lease.tell(Progress(phase="full", **load))
        lease.renew()
        assert load.items() <= line.json("status", job)["progress"].items()
        words = "loaded: 1,200 of about 4,800 rows (25%), about 1 min 15 s left"
        assert words in line.call("status", job)[1]
    assert line.json("status", job)["position"] is not None


@pytest.mark.slow
def test_a_sync_whose_run_failed_says_so(line: Line) -> None:
    """With the exit status and the last words of the run."""
    line.place.endpoint.key = "another"
    line.place.insert("d")
    assert line.call("run", str(line.place.job()), "--no-preflight")[0] == 1
    shown = line.json("status", str(line.place.job()))
    assert (shown["state"], shown["last_run"]["status"]) == ("Run Failed", 1)
    assert "401" in shown["last_run"]["words"]
    assert "ended with status 1" in line.call("status", str(line.place.job()))[1]


@pytest.mark.slow
def test_a_position_that_is_reset_lets_all_be_read_anew_in_a_new_epoch(line: Line) -> None:
    """The positions before are still shown."""
    job = str(line.place.job())
    before = line.json("status", job)
    assert line.json("position", "reset", job)["position"] is None
    kept = line.json("position", "show", job)["kept"]
    assert before["position"]["at"] in [k["position"] and k["position"]["at"] for k in kept]
    assert "no position" in line.call("position", "show", job)[1]
    report = line.place.run()
    assert (report.state, report.rows_read) == ("DONE", 3)
    assert report.position is not None
    assert report.position["epoch"] == before["epoch"] + 1
    assert line.place.differences() == []


@pytest.mark.slow
def test_a_source_need_keep_nothing_for_a_position_that_is_reset(line: Line) -> None:
    """If the source can't be told, the position is reset all the same, and a note says so."""
    job, table = str(line.place.job()), line.place.script.table
    assert list(table.held()) == ["kept"]
    assert line.json("position", "reset", job)["position"] is None
    assert table.held() == {}
    table.tell(away=True)
    status, out, err = line.call("position", "reset", job)
    assert (status, "no position" in out) == (0, True)
    assert "the table is away" in err


@pytest.mark.slow
def test_a_position_that_is_set_is_where_the_next_run_goes_on(line: Line) -> None:
    """Without a full load; what was read before is read again, and is right afterwards."""
    job = str(line.place.job())
    line.place.script.update("a", "changed")
    line.place.script.delete("b")
    there = line.place.script.table.end()
    line.place.insert("e")
    epoch = line.json("status", job)["epoch"]
    stored = line.json("position", "set", job, str(there))
    assert stored["position"]["at"] == {"offset": there}
    assert stored["epoch"] == epoch + 1
    report = line.place.run()
    assert (report.state, report.rows_read) == ("DONE", 1)
    assert sorted(line.place.held.there()) == ["a", "b", "c", "e"]


WRONG: dict[str, tuple[list[str], str]] = {
    "a place that the source can't read": (["position", "set", "JOB", "nowhere"], "nowhere"),
    "no such job": (["status", "none.json"], "none.json"),
    "no such folder": (["status", "file:///nowhere/at/all"], "file"),
    "Redis without a name": (["status", "redis://127.0.0.1:1/0"], "which ones"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_can_t_be_shown_or_set_is_told(line: Line, name: str) -> None:
    """Exit status 2, and the position stays."""
    arguments, words = WRONG[name]
    before = line.place.position()
    status, out, err = line.call(*[str(line.place.job()) if a == "JOB" else a for a in arguments])
    assert (status, out) == (2, "")
    assert words in err
    assert line.place.position() == before


def test_a_job_that_follows_nothing_has_no_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told so, by the step that reads."""
    outcome = Bench(tmp_path, capsys).call("status")
    assert outcome.status == 2
    assert "has no position" in outcome.err
