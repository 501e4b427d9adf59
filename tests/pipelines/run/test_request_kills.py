"""What commands ask of a sync, where processes are killed, stopped and woken: into PostgreSQL.

A request is carried out at most once, and never lost in silence.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.contracts.sync import DIMENSION, Scripted, differences, write_job
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import PostgresPlace
from tests.effort import spread
from tests.services.redis_server import RedisServer
from tests.services.server import eventually, running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.positions.folder import FolderPlace
from vecferry.positions.place import Place
from vecferry.positions.redis import RedisPlace
from vecferry.positions.store import Positions

pytestmark = [pytest.mark.service, pytest.mark.slow]

WORDS = {
    "reset": ["position", "reset", "JOB"],
    "set": ["position", "set", "JOB", "0"],
    "resync": ["resync", "JOB"],
    "range": ["resync", "JOB", "--from", "r1", "--to", "r4"],
    "repair": ["verify", "JOB", "--repair"],
}
DEATHS = [
    ("reset", "request"),
    ("reset", "effect"),
    ("set", "request"),
    ("set", "effect"),
    ("resync", "effect"),
    ("resync", "epoch"),
    ("resync", "round"),
    ("resync", "store"),
    ("resync", "stored"),
    ("range", "request"),
    ("range", "round"),
    ("range", "store"),
    ("range", "effect"),
    ("repair", "request"),
    ("repair", "repair"),
    ("repair", "effect"),
    ("repair", "answer"),
]
"""What is asked for, and where whoever carries it out is killed."""


class Synced:
    """A sync of a scripted table into PostgreSQL, loaded; then rows of its target are wrong."""

    def __init__(
        self, folder: Path, store: PostgresPlace, endpoint: EndpointServer, nursery: Nursery
    ) -> None:
        self.folder, self.store, self.nursery = folder, store, nursery
        self.script = Scripted(folder / "table")
        self._endpoint = endpoint
        self._where = str(folder / "positions")
        self.place: Place = FolderPlace(self._where)
        self._said = len(nursery.log.read_text())

    def in_redis(self, server: RedisServer) -> None:
        """Positions are kept there."""
        name = uuid.uuid4().hex
        self._where, self.place = f"{server.uri}/{name}", RedisPlace(server.uri, name)

    def load(self) -> None:
        """The first run; then a row is missing, one is too much, two differ in text or vector."""
        for n in range(10):
            self.script.insert(f"r{n}", f"text {n}")
        write_job(
            self.folder,
            self.script,
            self.store.writer(),
            self._endpoint.url,
            random.Random(1),
            positions=self._where,
        )
        sources = {"Store": self.store.source()}
        (self.folder / "sources.json").write_text(json.dumps(sources))
        self.ends("run", "JOB")
        name = self.store.name
        self.store.server.execute(
            f"DELETE FROM \"{name}\" WHERE id = 'r1'",
            f'INSERT INTO "{name}" SELECT \'ghost\', text, vector, version FROM "{name}" '
            "WHERE id = 'r2'",
            f"UPDATE \"{name}\" SET text = 'not this' WHERE id = 'r3'",
            f'UPDATE "{name}" SET vector = (SELECT vector FROM "{name}" WHERE id = \'r5\') '
            "WHERE id = 'r4'",
        )

    def start(
        self, *words: str, at: str = "", times: int = 1, kind: signal.Signals = signal.SIGKILL
    ) -> int:
        """A command of this job, in a process of its own."""
        line = [str(self.folder / "job.json") if word == "JOB" else word for word in words]
        line += ["-d", str(self.folder / "sources.json")]
        if words[0] != "position":
            line += ["--rejects", str(self.folder / "rejects")]
        return self.nursery.start(*line, at=at, times=times, kind=kind)

    def ends(self, *words: str) -> None:
        """A command that ends well."""
        process = self.start(*words)
        assert self.nursery.ended(process) == 0, self.said()

    def follows(self, at: str = "", kind: signal.Signals = signal.SIGKILL) -> int:
        """A run that goes on for ever, once it waits for news."""
        process = self.start("run", "JOB", "--continuous", at=at, kind=kind)
        eventually(lambda: self.positions.standing().state == "Running")
        return process

    @property
    def positions(self) -> Positions:
        """What is stored."""
        return Positions(self.place, "kept")

    def waiting(self) -> int:
        """How many requests have no answer."""
        return len(self.positions.requests.waiting())

    def whys(self) -> list[str]:
        """What the entries that are kept were created for."""
        return [entry.why for entry in self.positions.history()]

    def said(self) -> str:
        """What the processes of this test printed."""
        return self.nursery.log.read_text()[self._said :]

    def is_right(self, kind: str) -> None:
        """The target is what was asked for, and goes on to be."""
        if kind in ("reset", "set"):
            self.ends("run", "JOB")
        ghost = ["ghost: is too much"] if kind in ("range", "set") else []
        assert differences(self.script.rows(), self.store.found()) == ghost
        for key in ("r1", "r3", "r7"):
            self.script.update(key, f"{key} later")
        self.ends("run", "JOB")
        assert differences(self.script.rows(), self.store.found()) == ghost
        assert self.waiting() == 0
        stored = self.positions.load()
        assert stored is not None
        assert (stored.carried, stored.begun) == ((), None)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Imports what a run needs once for all tests."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.testing.scripted")
    yield nursery
    nursery.close()


PLACES = ("folder", "redis")
STOPS = (("repair", "repair"), ("reset", "request"), ("repair", "effect"), ("range", "store"))
PAIRS = (("resync", "repair"), ("repair", "repair"), ("range", "resync"))


@pytest.fixture
def store() -> Iterator[PostgresPlace]:
    """An empty table."""
    store = PostgresPlace(DIMENSION)
    yield store
    store.close()


@pytest.fixture(params=PLACES)
def synced(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: PostgresPlace,
    endpoint: EndpointServer,
    nursery: Nursery,
) -> Synced:
    """A sync that was loaded, whose target is wrong."""
    synced = Synced(tmp_path, store, endpoint, nursery)
    if request.param == "redis":
        synced.in_redis(running(RedisServer))
    synced.load()
    return synced


in_a_folder = pytest.mark.parametrize("synced", ["folder"], indirect=True)


@in_a_folder
@pytest.mark.parametrize(("kind", "at"), spread(DEATHS, 2))
def test_a_command_takes_the_lease_of_a_holder_that_was_killed(
    synced: Synced, kind: str, at: str
) -> None:
    """Whatever the holder had done of what was asked; the command ends well."""
    holder = synced.follows(at)
    command = synced.start(*WORDS[kind])
    assert synced.nursery.ended(command) == 0, synced.said()
    assert synced.nursery.ended(holder) == -signal.SIGKILL
    assert synced.whys().count("reset") == (kind in ("reset", "resync"))
    assert synced.whys().count("set") == (kind == "set")
    synced.is_right(kind)


@in_a_folder
@pytest.mark.parametrize(
    ("kind", "at"), spread([d for d in DEATHS if d[0] not in ("reset", "set")], 2)
)
def test_what_a_killed_command_left_is_carried_out_by_the_next_run(
    synced: Synced, kind: str, at: str
) -> None:
    """Nobody held the sync, and the command worked alone."""
    command = synced.start(*WORDS[kind], at=at)
    assert synced.nursery.ended(command) == -signal.SIGKILL, synced.said()
    synced.ends("run", "JOB")
    assert synced.waiting() == 0
    assert synced.whys().count("reset") == (kind == "resync")
    synced.is_right(kind)


@pytest.mark.parametrize(
    ("synced", "kind"), spread([*product(PLACES, WORDS)], 3), indirect=["synced"]
)
def test_a_holder_that_is_alive_answers(synced: Synced, kind: str) -> None:
    """And goes on with its work."""
    holder = synced.follows()
    synced.ends(*WORDS[kind])
    assert "waits for run " in synced.said()
    synced.script.insert("new", "a new text")
    end = {"offset": synced.script.table.end()}

    def has_caught_up() -> bool:
        stored = synced.positions.load()
        return stored is not None and stored.position is not None and stored.position.at == end

    eventually(has_caught_up)
    assert synced.nursery.end(holder, signal.SIGTERM) == 0
    synced.is_right(kind)


@pytest.mark.parametrize(
    ("synced", "kind", "at"),
    spread([(place, *stop) for place in PLACES for stop in STOPS], 1),
    indirect=["synced"],
)
def test_a_holder_that_is_stopped_and_woken_in_the_middle_does_nothing_more(
    synced: Synced, kind: str, at: str
) -> None:
    """The command takes the lease once it is dead; the former holder fails, and says so."""
    holder = synced.follows(at, signal.SIGSTOP)
    command = synced.start(*WORDS[kind])
    begun = time.monotonic()
    assert synced.nursery.ended(command) == 0, synced.said()
    assert time.monotonic() - begun > 10, "a lease is dead after 15 s"
    os.kill(holder, signal.SIGCONT)
    assert synced.nursery.ended(holder) == 1, synced.said()
    assert "holds them no longer" in synced.said()
    assert synced.whys().count("reset") == (kind == "reset")
    synced.is_right(kind)


@pytest.mark.parametrize(
    ("synced", "pair"), spread([*product(PLACES, PAIRS)], 1), indirect=["synced"]
)
def test_two_commands_at_once_are_both_carried_out(synced: Synced, pair: tuple[str, str]) -> None:
    """One takes the lease, and carries out what both ask; or the other one follows."""
    commands = [synced.start(*WORDS[kind]) for kind in pair]
    assert [synced.nursery.ended(command) for command in commands] == [0, 0], synced.said()
    synced.is_right(pair[1])


@in_a_folder
def test_a_command_that_is_interrupted_withdraws_what_nobody_has_begun(synced: Synced) -> None:
    """The holder is stopped; woken, it finds nothing to do."""
    holder = synced.follows()
    os.kill(holder, signal.SIGSTOP)
    command = synced.start(*WORDS["reset"])
    eventually(lambda: "waits for run " in synced.said())
    assert synced.nursery.end(command, signal.SIGINT) == 130
    assert "withdrawn" in synced.said()
    os.kill(holder, signal.SIGCONT)
    assert synced.waiting() == 0
    assert synced.nursery.end(holder, signal.SIGTERM) == 0
    assert "reset" not in synced.whys()
