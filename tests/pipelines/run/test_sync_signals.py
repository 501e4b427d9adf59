"""Ctrl-C and SIGTERM in a sync: the chain ends after the round under way, and what is told."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sync import Scripted, write_job
from tests.contracts.sync_nursery import Nursery
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer, every
from vecferry.positions.folder import FolderPlace
from vecferry.positions.store import Positions

ROWS = 40
MODULES = ("vecferry.testing.scripted", "tests.contracts.sync_memory")


class Started:
    """A sync in a process of its own, and what it says of itself."""

    def __init__(self, folder: Path, endpoint: EndpointServer, nursery: Nursery) -> None:
        self.folder, self.endpoint, self.nursery = folder, endpoint, nursery
        self.script = Scripted(folder / "table")
        self._said_before = len(nursery.log.read_text())
        self.report = folder / "report.json"

    def start(self, *options: str) -> int:
        """Starts the sync of a table into memory."""
        parameter = {"name": "there", "column": ["id", "text", "vector"]}
        writer = {
            "stepType": "held",
            "category": "writer",
            "name": "Write",
            "parameter": parameter,
        }
        chance = random.Random(1)
        path = write_job(self.folder, self.script, writer, self.endpoint.url, chance)
        job = json.loads(path.read_text())
        job["steps"][0]["parameter"] |= {"parts": 2, "roundRows": 1000, "streams": 1}
        path.write_text(json.dumps(job))
        rejects = ["--rejects", str(self.folder / "rejects")]
        return self.nursery.start(
            "run", str(path), *rejects, "--report", str(self.report), *options
        )

    def told(self) -> dict[str, Any]:
        """The report."""
        told: dict[str, Any] = json.loads(self.report.read_text())
        return told

    @property
    def positions(self) -> Positions:
        """What is stored."""
        return Positions(FolderPlace(self.folder / "positions"), "kept")

    def stored(self) -> Any:
        """The newest position; None before the first."""
        found = self.positions.load()
        return found and found.position

    def says(self, words: str) -> bool:
        """Whether a process of this test has said so."""
        return words in self.nursery.log.read_text()[self._said_before :]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Imports what a run needs once for all tests."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), *MODULES)
    yield nursery
    nursery.close()


@pytest.fixture
def started(tmp_path: Path, endpoint: EndpointServer, nursery: Nursery) -> Started:
    """A table of some rows."""
    started = Started(tmp_path, endpoint, nursery)
    for n in range(ROWS):
        started.script.insert(f"r{n}", f"text {n}")
    return started


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_sync_that_follows_ends_well_on_a_signal(started: Started, kind: signal.Signals) -> None:
    """While it waits for news; its position is the end of the last round."""
    process = started.start("--continuous")
    eventually(lambda: started.stored() is not None and started.stored().phase == "changes")
    started.script.insert("new", "a new text")
    eventually(lambda: started.stored().at == {"offset": started.script.table.end()})
    assert started.nursery.end(process, kind) == 0
    told = started.told()
    assert (told["state"], told["rows_read"]) == ("DONE", ROWS + 1)
    assert any("interrupted" in note for note in told["notes"])
    assert started.positions.standing().state == "Scheduled"


@pytest.mark.slow
def test_a_round_of_changes_is_finished_and_stored(started: Started) -> None:
    """The signal comes in its middle; no further round is begun."""
    process = started.start("--continuous")
    eventually(lambda: started.stored() is not None and started.stored().phase == "changes")
    before = started.stored()
    started.script.table.tell(slow=0.05)
    requests = len(started.endpoint.requests)
    for n in range(60):
        started.script.insert(f"new{n}", f"new text {n}")
    eventually(lambda: len(started.endpoint.requests) > requests)
    assert started.nursery.end(process, signal.SIGTERM) == 0
    told = started.told()
    assert told["state"] == "DONE"
    assert told["rows_read"] == told["rows_written"] > ROWS
    assert started.stored() != before
    assert started.stored().at == told["position"]["at"] == told["span"]["until"]


@pytest.mark.slow
def test_a_part_of_a_full_load_is_stopped_and_not_stored(started: Started) -> None:
    """A run that is to end is CANCELLED, and the next run reads the part again."""
    started.script.table.tell(slow=0.2)
    process = started.start()
    eventually(lambda: started.endpoint.requests)
    assert started.nursery.end(process, signal.SIGTERM) == 130
    told = started.told()
    assert (told["state"], told["rounds"], told["position"]) == ("CANCELLED", 0, None)
    assert "not concluded" in told["notes"]
    assert started.stored() is None
    started.script.table.tell(slow=None)
    assert started.nursery.ended(started.start()) == 0
    assert started.told()["rows_written"] == ROWS


@pytest.mark.slow
def test_a_round_that_only_waits_is_given_up(started: Started) -> None:
    """Its server is away, and would be waited for for minutes."""
    started.endpoint.fault = every(1, "503")
    process = started.start("--continuous")
    eventually(lambda: len(started.endpoint.requests) > 2)
    assert started.nursery.end(process, signal.SIGTERM) == 0
    told = started.told()
    assert (told["rounds"], told["rows_written"], told["position"]) == (0, 0, None)
    assert started.says("the round under way only waits, and is given up")
    assert started.positions.standing().state == "Scheduled"


@pytest.mark.slow
def test_a_sync_that_waits_for_its_source_ends_at_once(started: Started) -> None:
    """Between two tries."""
    started.script.table.tell(away=True)
    process = started.start("--continuous", "--no-preflight")
    eventually(lambda: started.says("begins again from the position"))
    assert started.nursery.end(process, signal.SIGTERM) == 0
    assert started.told()["rounds"] == 0


@pytest.mark.slow
def test_the_second_signal_ends_a_sync_at_once(started: Started) -> None:
    """Nothing is stored, and the lease is free again."""
    started.endpoint.fault = every(1, "503")
    process = started.start("--continuous")
    eventually(lambda: len(started.endpoint.requests) > 2)
    os.kill(process, signal.SIGTERM)
    eventually(lambda: started.says("interrupted"))
    assert started.nursery.end(process, signal.SIGTERM) == 130
    started.endpoint.fault = None
    assert started.nursery.ended(started.start()) == 0


@pytest.mark.slow
def test_a_second_run_ends_with_2_and_names_the_holder(started: Started) -> None:
    """It neither reads nor writes, nor stores anything, nor ends the first run."""
    first = started.start("--continuous")
    eventually(lambda: started.stored() is not None and started.stored().phase == "changes")
    eventually(lambda: started.positions.standing().renewed is not None)
    requests, entries = len(started.endpoint.requests), started.positions.history()
    started.report.unlink(missing_ok=True)
    second = started.start()
    assert started.nursery.ended(second) == 2
    assert started.says(f"process {first} on {os.uname().nodename}")
    assert started.says("wait until it ends, or end it")
    assert len(started.endpoint.requests) == requests
    assert started.positions.history() == entries
    assert not started.report.exists()
    assert not (started.folder / "rejects").exists() or not [
        path for path in (started.folder / "rejects").rglob("*") if path.is_file()
    ]
    assert started.nursery.end(first, signal.SIGTERM) == 0
    assert started.told()["state"] == "DONE"
