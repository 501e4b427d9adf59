"""Jobs on a real Spark cluster: on a master and two executors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.cluster_contract import Contract, Runner
from tests.cluster_following import Following
from tests.cluster_kills import Kills, processes
from tests.cluster_workers import Workers
from tests.services.server import eventually, running, stop
from tests.services.spark import Spark

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.heavy(server=Spark)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Spark]:
    """Started once for this module, and stopped to make room for the next."""
    yield running(Spark)
    stop(Spark)


@pytest.fixture
def runner(cluster: Spark) -> Runner:
    """Workers are processes that vecferry-worker starts."""
    return Runner("SparkRunner", cluster.beam_options, committed=False)


class TestContract(Contract):
    """What every runner must do."""

    @pytest.fixture
    def runner(self, runner: Runner) -> Runner:
        """The cluster."""
        return runner


class TestKills(Kills):
    """Two executors of one core."""

    def kill_host(self) -> None:
        """One executor."""
        os.kill(processes("CoarseGrainedExecutorBackend")[0], signal.SIGKILL)

    def end_of_orphan(self) -> None:
        """Spark goes on without the client; executors end with their job."""
        eventually(lambda: not processes("CoarseGrainedExecutorBackend"), 120)


class TestWorkers(Workers):
    """Though Spark would try each task four times."""


class TestFollowing(Following):
    """Executors end with their job."""

    def jobs(self) -> list[str]:
        """The executors that run."""
        return [str(pid) for pid in processes("CoarseGrainedExecutorBackend")]
