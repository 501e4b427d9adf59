"""Leases between processes: who holds one, who takes one over, and who has lost one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.code import ROOT
from tests.effort import LONG
from tests.positions.places import JOB, named, positions
from tests.positions.worker import STATUS_LOST, at
from tests.services.server import eventually
from vecferry.errors import JobError
from vecferry.positions import holder as holders
from vecferry.positions.holder import Holder
from vecferry.positions.store import Positions

KILLS = 40 if LONG else 3


@pytest.fixture(
    params=["folder", *(pytest.param(k, marks=pytest.mark.service) for k in ("redis", "s3"))]
)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place: a folder, Redis, S3."""
    with named(request.param, tmp_path) as found:
        yield found


@contextmanager
def worker(mode: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does what `tests.positions.worker` says; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.positions.worker", mode, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a worker prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_a_second_run_is_refused_and_told_who_holds_the_lease(name: str) -> None:
    """The words name host, process, run, since when; nothing is waited for; nothing is stored."""
    with worker("hold", name) as first, positions(name) as store:
        assert line_of(first) == "taken"
        before = store.history()
        waited: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", waited.append)
            with pytest.raises(JobError) as refused:
                store.take(Holder(run="second"))
        assert not waited
        words = str(refused.value)
        for part in (
            f"process {first.pid} on {os.uname().nodename}",
            f"run run-{first.pid}",
            " UTC",
            "renewed",
            "wait until it ends, or end it",
        ):
            assert part in words
        assert store.history() == before
        standing = store.standing()
        assert standing.state == "Running"
        assert standing.holder is not None
        assert standing.holder.process == first.pid


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_over_at_once(name: str) -> None:
    """However young it is, and with the position that was stored last."""
    with positions(name, dead=10_000.0) as store:
        with worker("store", name) as first:
            assert line_of(first) == "taken 0"
            eventually(lambda: line_of(first) == "stored 3")
            first.kill()
            first.communicate()
        assert store.standing().state == "Run Failed"
        with store.take(Holder(run="second")) as lease:
            position = lease.stored.position
            assert position is not None
            assert position.at >= 3
            assert lease.stored.outcome is not None
            assert lease.stored.outcome.run == f"run-{first.pid}"
            assert lease.stored.outcome.status is None


def test_a_process_that_its_parent_has_not_asked_for_is_gone(name: str) -> None:
    """A zombie holds nothing."""
    with positions(name, dead=10_000.0) as store, worker("hold", name) as first:
        assert line_of(first) == "taken"
        first.send_signal(signal.SIGKILL)
        state = Path(f"/proc/{first.pid}/stat")
        eventually(lambda: ") Z " in state.read_text())
        store.take(Holder(run="second")).release()


@pytest.mark.slow
def test_who_was_stopped_and_taken_over_stores_nothing_and_fails(name: str) -> None:
    """It wakes in the middle of storing; what the second run stored stays, and goes on."""
    with worker("store", name) as first, positions(name, dead=0.5, store=0) as store:
        assert line_of(first) == "taken 0"
        eventually(lambda: line_of(first) == "stored 5")
        first.send_signal(signal.SIGSTOP)
        eventually(lambda: store.standing().state == "Run Failed")
        lease = store.take(Holder(run="second"))
        begun = lease.stored.position
        assert begun is not None
        for n in range(
            1, 26
        ):  # so many that the number of the first run's next entry is free again
            lease.store(replace(begun, at=1000 + n))
        first.send_signal(signal.SIGCONT)
        out, _ = first.communicate(timeout=120)
        assert first.returncode == STATUS_LOST
        *reported, lost = out.splitlines()
        assert all(int(line.split()[1]) <= begun.at for line in reported)
        assert "lost" in lost
        assert "run second" in lost
        found = store.load()
        assert found is not None
        assert found.position is not None
        assert (found.number, found.position.at) == (lease.stored.number, 1025)
        assert lease.store(replace(begun, at=2000))
        lease.release()
        assert {entry.fencing for entry in store.history()} == {lease.fencing}


@pytest.mark.slow
def test_a_holder_learns_without_storing_that_it_was_taken_over(name: str) -> None:
    """With its next sign of life."""
    with worker("hold", name) as first, positions(name, dead=0.5) as store:
        assert line_of(first) == "taken"
        first.send_signal(signal.SIGSTOP)
        eventually(lambda: store.standing().state == "Run Failed")
        lease = store.take(Holder(run="second"))
        first.send_signal(signal.SIGCONT)
        assert line_of(first) == "lost"
        lease.release()
        assert store.standing().state == "Run Failed"  # of the first run: the second told nothing


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3 if LONG else 1))
def test_kills_at_random_moments_lose_no_position_and_block_nobody(name: str, seed: int) -> None:
    """What was reported stored is there; nothing goes back; the next run stores at once."""
    chance = random.Random(seed)
    reported = 0
    with positions(name) as store:
        for _ in range(KILLS):
            with worker("store", name) as process:
                taken, begun = line_of(process).split()
                assert taken == "taken"
                assert int(begun) >= reported
                eventually(lambda process=process: line_of(process).startswith("stored"))
                time.sleep(chance.random() * 0.3)
                process.kill()
                assert process.stdout is not None
                lines = process.stdout.read().splitlines()
            stored = [int(line.split()[1]) for line in lines if line.startswith("stored ")]
            reported = max([reported, int(begun) + 1, *stored])
            found = store.load()
            assert found is not None
            assert found.position is not None
            assert reported <= found.position.at <= reported + 1
            reported = found.position.at
        assert len(store.history()) <= 21  # the twenty, and one that a kill left


@pytest.mark.slow
def test_a_kill_before_any_line_of_code_loses_nothing(tmp_path: Path) -> None:
    """The lines that store in a folder: between every two calls of the system there is one."""
    with named("folder", tmp_path) as name, worker("lines", name, "1" if LONG else "6") as process:
        assert line_of(process).startswith("lines ")


@pytest.mark.slow
def test_a_lease_of_another_machine_is_judged_by_the_place_s_clock(name: str) -> None:
    """A holder whose clock is years off is neither dead too early nor for ever alive."""
    far = Holder(run="far", host="other", process=1, machine="another boot", begun="1", since=0.0)
    with positions(name, dead=3.0, renew=10_000.0) as store:
        lease = store.take(far)
        assert store.standing().state == "Running"
        with pytest.raises(JobError, match="process 1 on other, since 1970"):
            store.take(Holder(run="near"))
        eventually(lambda: store.standing().state == "Run Failed")
        with store.take(Holder(run="near")) as taken:
            assert taken.fencing > lease.fencing
        lease.release()
        assert lease.lost.is_set()


def test_a_process_of_another_container_is_not_looked_up_by_its_id(tmp_path: Path) -> None:
    """Containers of one machine share the boot; process 1 of one is not that of another."""
    with named("folder", tmp_path) as name, positions(name) as store:
        boot, _, _ = holders._machine().partition(" ")
        other = Holder(run="r", process=2**22 + 1, machine=f"{boot} pid:[1]", begun="1")
        lease = store.take(other)
        assert not other.is_gone
        with pytest.raises(JobError, match="holds them"):
            store.take(Holder(run="near"))
        lease.release()


def test_an_id_that_was_given_away_again_holds_nothing(tmp_path: Path) -> None:
    """The process of that id began at another time."""
    with named("folder", tmp_path) as name, positions(name, dead=10_000.0) as store:
        former = replace(Holder(run="former"), begun="1")
        store.take(former)
        assert former.is_gone
        store.take(Holder(run="next")).release()


def test_a_position_is_of_this_job(tmp_path: Path) -> None:
    """Two jobs that name one place are told apart."""
    with named("folder", tmp_path) as name, positions(name) as store:
        store.take(Holder(run="r")).release()
        other = Positions(store.place, "another")
        with pytest.raises(JobError, match=f"of the job '{JOB}', and this is 'another'"):
            other.take(Holder(run="r"))
        assert at(1).at == 1
