"""Folders of stores behind a service, followed: what changes in them, and a store that is away."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import Break, differences, embedded, held_job, run_here
from tests.contracts.sync_files import PLACES, Stored
from tests.contracts.sync_memory import held
from tests.io.files.stores.proxy import Proxy, status
from tests.io.files.stores.support import buckets_have_names
from tests.services.hdfs import Hdfs
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.sync import Step

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


class Kept:
    """A job that follows a folder of a store into memory."""

    def __init__(self, kind: str, endpoint: EndpointServer, folder: Path) -> None:
        self.script = Stored(kind)
        for key in ("a", "b", "c", "d"):
            self.script.insert(key, f"text {key}")
        chance = random.Random(1)
        self.name, self.job, self.sources = held_job(
            self.script, endpoint, folder, chance, versions=True
        )

    def set(self, **source: Any) -> None:
        """Changes the data source."""
        given = json.loads(self.sources.read_text())
        given["Files"].update(source)
        self.sources.write_text(json.dumps(given))

    def run(self, **options: Any) -> Report:
        """One run in this process."""
        return run_here(self.job, sync_memory.KINDS, sources=self.sources, **options)

    def wrong(self) -> list[str]:
        """Where the target differs from the files."""
        there = held(self.name).there()
        found = {key: (row["text"], row["vector"]) for key, row in there.items()}
        return differences(self.script.rows(), found)


@pytest.mark.parametrize("kind", PLACES)
def test_new_changed_moved_and_gone_files_of_a_store(
    kind: str, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Each is seen, and nothing else is read; a former content is a change as well."""
    with buckets_have_names():
        kept = Kept(kind, endpoint, tmp_path)
        script = kept.script
        assert kept.run().state == "DONE"
        assert kept.wrong() == []
        script.update("a", "text a, longer")
        script.move("b", "moved", "text b")
        script.delete("c")
        script.insert("new", "text new")
        report = kept.run()
        assert (report.rows_read, report.rows_deleted, kept.wrong()) == (5, 2, [])
        assert kept.run().rows_read == 0
        script.update("a", "text a")
        assert (kept.run().rows_read, kept.wrong()) == (1, [])
    expected = ["text a", "text a, longer", "text b", "text c", "text d", "text new"]
    assert sorted(embedded(endpoint)) == expected


@pytest.mark.parametrize("kind", ["s3", "hdfs", "gcs"])
def test_a_store_that_goes_away_is_waited_for(
    kind: str, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Its server is broken, then its folder is gone; no row goes, and what changed is read."""
    kept = Kept(kind, endpoint, tmp_path)
    script = kept.script
    keys = list(script.rows())
    spans = 0
    with Proxy(kept.script.sources()["Files"]["endpoint"]) as proxy:
        kept.set(endpoint=proxy.url)

        def on_step(step: Step) -> None:
            nonlocal spans
            if step == "conclude" and not spans:
                proxy.faults = [status(503)] * 3
                spans = 1
            if step != "span" or not spans:
                return
            spans += 1
            if spans == 4:
                script.remove_all()
            elif spans == 6:
                assert len(held(kept.name).there()) == 4
                for key in keys[1:]:
                    script.insert(key, f"text {key} anew")
            elif spans > 6 and not kept.wrong():
                raise Break(step)

        with pytest.raises(Break):
            kept.run(on_step=on_step, continuous=True)
        assert proxy.met == 3


def test_a_folder_of_hdfs_that_is_moved_away_while_it_is_read_costs_no_row(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Its files come back in the state that was listed, and are read all the same."""
    kept = Kept("hdfs", endpoint, tmp_path)
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if step == "round" and steps.count(step) == 1:
            move("", "-away")
        if step == "span" and steps.count(step) == 3:
            move("-away", "")

    def move(before: str, after: str) -> None:
        base = kept.script.folder
        running(Hdfs).call("PUT", base + before, op="RENAME", destination=f"/{base}{after}")

    assert kept.run(on_step=on_step).state == "DONE"
    assert kept.wrong() == []
