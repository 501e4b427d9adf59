"""What every source that is followed must show: whatever breaks a sync off, the target comes to
equal the source.

A source gives a `Script`: a table that the test writes to, and the reader of a job. Each test then
runs the job, breaks it off, and compares. `Broken` and `Killed` are classes of tests. A module of
tests makes a subclass with the fixture `script`; of `Killed` also with `store` and `nursery`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contracts import sync_memory
from tests.contracts.sync_memory import held
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import StorePlace
from tests.effort import some
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from vecferry.errors import TransientError
from vecferry.kinds import Kind
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.launch import open_run
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.positions import positions_of
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.sync import Step, follow
from vecferry.positions.folder import FolderPlace
from vecferry.positions.requests import Request, RequestKind
from vecferry.positions.store import Positions
from vecferry.testing.scripted import KINDS as SCRIPTED
from vecferry.testing.scripted import ScriptedTable

DIMENSION = 64


class Script(ABC):
    """A table that a test writes to, and the reader that follows the table.

    A row has the columns ``id`` and ``text``, both texts.
    """

    @abstractmethod
    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """The reader's step of a job; what bounds parts and rounds may be left to chance.

        A round may have as many as `least` rows, or more.
        """

    @abstractmethod
    def rows(self) -> dict[str, str]:
        """The texts by id, as the table has them now."""

    @abstractmethod
    def insert(self, key: str, text: str) -> None:
        """A new row."""

    @abstractmethod
    def update(self, key: str, text: str) -> None:
        """Another text."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """The row is gone."""

    @abstractmethod
    def move(self, key: str, to: str, text: str) -> None:
        """The row gets another id and another text."""

    @abstractmethod
    def truncate(self) -> None:
        """All rows are gone."""

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that a job needs beside vecferry's own."""
        return ()

    def sources(self) -> dict[str, Any]:
        """The data sources of the reader."""
        return {}

    def setting(self) -> dict[str, Any]:
        """What else the job says in `setting`."""
        return {}


class Scripted(Script):
    """The scripted source."""

    def __init__(self, folder: Path) -> None:
        self.table = ScriptedTable(folder)

    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """In parts and rounds of any size."""
        return {
            "stepType": "scripted",
            "category": "reader",
            "name": "Read",
            "parameter": {
                "path": str(self.table.folder),
                "parts": chance.randrange(1, 5),
                "roundRows": least * chance.choice([1, 3, 10, 100]),
                "streams": chance.randrange(1, 3),
            },
        }

    def kinds(self) -> tuple[Kind, ...]:
        """The stepType ``scripted``."""
        return SCRIPTED

    def rows(self) -> dict[str, str]:
        """From the log."""
        return {key: row["text"] for key, row in self.table.rows().items()}

    def insert(self, key: str, text: str) -> None:
        self.table.insert({"id": key, "text": text})

    def update(self, key: str, text: str) -> None:
        self.table.update({"id": key, "text": text})

    def delete(self, key: str) -> None:
        self.table.delete(key)

    def move(self, key: str, to: str, text: str) -> None:
        self.table.move(key, {"id": to, "text": text})

    def truncate(self) -> None:
        self.table.truncate()


class Writer:
    """Somebody who writes to a table at random, and remembers each text that was ever there."""

    def __init__(self, script: Script, chance: random.Random, keys: int = 40) -> None:
        self.script, self.chance, self.keys = script, chance, keys
        self.texts = set(script.rows().values())
        self.there = set(script.rows())

    def text(self) -> str:
        """A text, sometimes one that was there before."""
        new = f"text {self.chance.randrange(10**9)}"
        if self.texts and self.chance.random() < 0.2:
            new = self.chance.choice(sorted(self.texts))
        self.texts.add(new)
        return new

    def write(self, times: int = 1, truncations: float = 0.01) -> None:
        """So many things happen."""
        for _ in range(times):
            self._one(truncations)

    def _one(self, truncations: float) -> None:
        chance, script = self.chance, self.script
        key, what = f"k{chance.randrange(self.keys)}", chance.random()
        if chance.random() < truncations:
            script.truncate()
            self.there.clear()
        elif key not in self.there:
            script.insert(key, self.text())
            self.there.add(key)
        elif what < 0.5:
            script.update(key, self.text())
        elif what < 0.75:
            script.delete(key)
            self.there.remove(key)
        else:
            to = f"m{chance.randrange(10**9)}"
            script.move(key, to, self.text())
            self.there.remove(key)
            self.there.add(to)


def embed(endpoint: str) -> dict[str, Any]:
    """The step that makes vectors, with the server of tests."""
    return {
        "stepType": "embedding-transformer",
        "category": "flatmap",
        "name": "Embed",
        "parameter": {
            "modelProvider": "openai",
            "modelName": "m",
            "endpoint": endpoint,
            "apiKey": "sk-test",
            "dimension": DIMENSION,
            "embeddingColumns": {
                "sourceColumnNames": ["text"],
                "embeddingColumnName": "vector",
            },
        },
    }


def write_job(
    folder: Path,
    script: Script,
    writer: dict[str, Any],
    endpoint: str,
    chance: random.Random,
    least: int = 1,
    **setting: Any,
) -> Path:
    """A job's file in `folder`, beside its data sources; positions and cache are there as well."""
    job = {
        "type": "job",
        "version": "2.0",
        "name": "kept",
        "steps": [script.reader(chance, least), embed(endpoint), writer],
        "setting": {
            "positions": str(folder / "positions"),
            "vectorCache": {"uri": f"sqlite:///{folder}/vectors.sqlite"},
            "pauseSeconds": 0,
            "errorLimit": {"record": 0},
            **script.setting(),
            **setting,
        },
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


class Break(Exception):
    """Stands for the end of a process in the middle of a sync."""


OnStep = Callable[[Step], None]


def nothing(step: Step) -> None:
    """No break."""


def run_here(
    job: Path,
    kinds: tuple[Kind, ...],
    on_step: OnStep = nothing,
    sources: Path | None = None,
    **options: Any,
) -> Report:
    """Carries out a sync in this process."""
    for kind in kinds:
        registry.register(kind)
    resolved: ResolvedJob = read_and_resolve(str(job), data_sources=sources and str(sources))
    options = {"rejects": str(job.parent / "rejects"), "preflight": False, **options}
    chosen = RunOptions(**options)
    return follow(open_run(resolved, chosen), positions_of(resolved), _silent, on_step)


def _silent(*_: Any) -> None:
    """No progress is shown."""


def differences(expected: dict[str, str], found: dict[str, tuple[str, Any]]) -> list[str]:
    """What is missing, too much, of another text, or with the vector of another text."""
    wrong = [f"{key}: is missing" for key in expected.keys() - found.keys()]
    wrong += [f"{key}: is too much" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        text, vector = found[key]
        if text != expected[key]:
            wrong.append(f"{key}: {text!r} is not {expected[key]!r}")
        elif not np.allclose(vector, vector_of(text, DIMENSION), atol=1e-5):
            wrong.append(f"{key}: its vector is not of its text")
    return sorted(wrong)


def embedded(server: EndpointServer) -> list[str]:
    """Each input that the server made a vector of, as often as it did."""
    return [text for seen in server.good for text in seen.inputs]


class _InThisProcess:
    """Syncs into a target in memory."""

    @pytest.fixture
    def endpoint(self) -> Iterator[EndpointServer]:
        """Without latency."""
        with EndpointServer() as server:
            yield server


class Broken(_InThisProcess):
    """Breaks at each step of the loop."""

    @pytest.mark.parametrize("seed", some(range(200), 2))
    def test_a_sync_that_is_broken_off_anywhere_comes_to_equal_its_source(
        self, seed: int, script: Script, endpoint: EndpointServer, tmp_path: Path
    ) -> None:
        """Though the table is written to all the time; no distinct text is paid for twice."""
        chance = random.Random(seed)
        writing = Writer(script, chance)
        writing.write(chance.randrange(60), truncations=0)
        name, job, sources = held_job(script, endpoint, tmp_path, chance, versions=seed % 3 != 0)
        kinds = (*script.kinds(), *sync_memory.KINDS)
        left = [0]

        def on_step(step: Step) -> None:
            if chance.random() < 0.3:
                writing.write(chance.randrange(1, 4))
            left[0] -= 1
            if left[0] == 0:
                raise chance.choice([Break(step), TransientError(f"away at {step}")])

        for _ in range(chance.randrange(1, 6)):
            left[0] = chance.randrange(1, 30)
            try:
                run_here(job, kinds, on_step, sources, until="now")
            except Break:
                continue
        assert run_here(job, kinds, sources=sources).state == "DONE"
        found = {key: (row["text"], row["vector"]) for key, row in held(name).there().items()}
        assert differences(script.rows(), found) == []
        assert held(name).concluded >= 1
        inputs = embedded(endpoint)
        assert len(inputs) == len(set(inputs))
        assert set(inputs) <= writing.texts


class Asked(_InThisProcess):
    """Requests to a sync that breaks at each step of the loop."""

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", some(range(100), 1))
    def test_what_is_asked_of_a_sync_that_is_broken_off_is_done_or_told(
        self, seed: int, script: Script, endpoint: EndpointServer, tmp_path: Path
    ) -> None:
        """Resyncs, repairs and resets; rows of the target are lost, and a repair brings them."""
        chance = random.Random(seed)
        writing = Writer(script, chance)
        writing.write(40, truncations=0)
        name, job, sources = held_job(script, endpoint, tmp_path, chance, versions=seed % 3 != 0)
        kinds = (*script.kinds(), *sync_memory.KINDS)
        requests = Positions(FolderPlace(tmp_path / "positions"), "kept").requests
        asked: list[str] = []
        left = [0]

        def on_step(step: Step) -> None:
            if chance.random() < 0.3:
                writing.write(chance.randrange(1, 4))
            if chance.random() < 0.1 and len(asked) < 15:
                kind: RequestKind = chance.choice(["resync", "repair", "reset"])
                asked.append(requests.ask(Request(kind=kind, asked_by="a test")))
            there = held(name).there()
            if there and step == "span" and chance.random() < 0.1:
                held(name).rows.pop(chance.choice(sorted(there)))
            left[0] -= 1
            if left[0] == 0:
                raise chance.choice([Break(step), TransientError(f"away at {step}")])

        for _ in range(chance.randrange(1, 6)):
            left[0] = chance.randrange(1, 40)
            with suppress(Break):
                run_here(job, kinds, on_step, sources, until="now")
        asked.append(requests.ask(Request(kind="repair", asked_by="a test")))
        assert run_here(job, kinds, sources=sources).state == "DONE"
        found = {key: (row["text"], row["vector"]) for key, row in held(name).there().items()}
        assert differences(script.rows(), found) == []
        assert requests.waiting() == []
        for one in asked:
            last = requests.answers(one)[-1]
            assert last.done
            assert last.status == 0 or "given up" in last.text, last
        writing.write(10)
        assert run_here(job, kinds, sources=sources).rows_stale == 0
        found = {key: (row["text"], row["vector"]) for key, row in held(name).there().items()}
        assert differences(script.rows(), found) == []


def held_job(
    script: Script,
    endpoint: EndpointServer,
    folder: Path,
    chance: random.Random,
    *,
    versions: bool,
) -> tuple[str, Path, Path]:
    """A job into memory: the name of its target, its file, and the file of its data sources."""
    name = uuid.uuid4().hex
    parameter = {"name": name, "column": ["id", "text", "vector"], "versions": versions}
    writer = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
    job = write_job(folder, script, writer, endpoint.url, chance)
    sources = folder / "sources.json"
    sources.write_text(json.dumps(script.sources()))
    return name, job, sources


KILLS = 10
DEATHS = [("round", 1), ("done", 1), ("store", 2), ("link", 2), ("link", 4), ("stored", 1)]
"""Where a process kills itself, and at which time: others are killed at a random moment."""
AT_MOST_IN_FLIGHT = 8 * 10
"""Inputs under way at a kill: `setting.speed.concurrent` requests of ten texts."""


class Killed:
    """Kills of whole processes, on the real stores.

    A subclass has the fixtures `store` and `nursery`, which knows the kinds of the script.
    """

    @pytest.fixture
    def endpoint(self) -> Iterator[EndpointServer]:
        """10 ms a request."""
        with EndpointServer(latency=0.01) as server:
            yield server

    @pytest.mark.parametrize("seed", some(range(20), 1))
    def test_a_sync_that_is_killed_again_and_again_comes_to_equal_its_source(
        self,
        seed: int,
        script: Script,
        store: StorePlace,
        endpoint: EndpointServer,
        nursery: Nursery,
        tmp_path: Path,
    ) -> None:
        """In the full load, between write and store, in the middle of storing, anywhere."""
        chance = random.Random(seed)
        writing = Writer(script, chance, keys=300)
        writing.write(200, truncations=0)
        setting = {"speed": {"concurrent": 8}}
        job = write_job(tmp_path, script, store.writer(), endpoint.url, chance, 50, **setting)
        sources = tmp_path / "sources.json"
        sources.write_text(json.dumps({**script.sources(), "Store": store.source()}))
        line = ["run", str(job), "-d", str(sources), "--rejects", str(tmp_path / "rejects")]
        deaths = [*DEATHS, *[("", 0)] * (KILLS - len(DEATHS))]
        chance.shuffle(deaths)
        for at, times in deaths:
            process = nursery.start(*line, "--continuous", at=at, times=times)
            moment = time.monotonic() + chance.uniform(0.05, 3)
            while nursery.status(process) is None:
                writing.write(chance.randrange(1, 8))
                time.sleep(0.05)
                if not at and time.monotonic() > moment:
                    os.kill(process, signal.SIGKILL)
            assert nursery.status(process) == -signal.SIGKILL, nursery.log.read_text()
        process = nursery.start(*line)
        assert nursery.ended(process) == 0, nursery.log.read_text()
        assert differences(script.rows(), store.found()) == []
        inputs = embedded(endpoint)
        assert set(inputs) <= writing.texts
        assert len(inputs) <= len(set(inputs)) + KILLS * AT_MOST_IN_FLIGHT
