"""Jobs on a real Spark cluster: on a master and two executors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.contracts.cluster import Afar, Runner
from tests.contracts.cluster_following import Following
from tests.contracts.cluster_kills import Kills, processes
from tests.contracts.cluster_sync import Syncs
from tests.contracts.cluster_templates import SmallElasticsearch, Templates
from tests.contracts.cluster_workers import Workers
from tests.services.server import eventually, running, stop
from tests.services.spark import Spark

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.heavy(server=Spark)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Spark]:
    """Started once for all tests that are marked with it."""
    yield running(Spark)
    stop(SmallElasticsearch)


@pytest.fixture(scope="module")
def runner(cluster: Spark) -> Runner:
    """Workers are processes that vecferry-worker starts."""
    return Runner("SparkRunner", cluster.beam_options, committed=False)


class TestContract(Afar):
    """What every runner must do."""


class TestTemplates(Templates):
    """The server of vectors is not part of the cluster."""


class TestKills(Kills):
    """Two executors of one core."""

    def kill_host(self) -> None:
        """One executor."""
        os.kill(processes("CoarseGrainedExecutorBackend")[0], signal.SIGKILL)

    def end_of_orphan(self) -> None:
        """Spark goes on without the client; executors end with their job."""
        eventually(lambda: not processes("CoarseGrainedExecutorBackend"))


class TestWorkers(Workers):
    """Though Spark would try each task four times."""


class TestFollowing(Following):
    """Executors end with their job."""

    def jobs(self) -> list[str]:
        """The executors that run."""
        return [str(pid) for pid in processes("CoarseGrainedExecutorBackend")]


class TestSyncs(Syncs):
    """A chain of jobs."""
