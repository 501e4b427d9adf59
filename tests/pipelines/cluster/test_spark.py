"""Jobs on a real Spark cluster: on a master and two executors.

A job takes half a minute there, so most of what Flink is tested for in each run is for a long run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.contracts.cluster import Afar, Job, Runner
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


@pytest.mark.long
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

    @pytest.mark.long
    def test_a_killed_client_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The job goes on to its end without it."""
        super().test_a_killed_client_costs_no_row(runner, job)
        assert not processes("CoarseGrainedExecutorBackend")


@pytest.mark.long
class TestWorkers(Workers):
    """Though Spark would try each task four times."""


@pytest.mark.long
class TestFollowing(Following):
    """Executors end with their job."""

    def jobs(self) -> list[str]:
        """The executors that run."""
        return [str(pid) for pid in processes("CoarseGrainedExecutorBackend")]

    def test_two_interrupts_end_the_job_on_the_cluster(self, runner: Runner, job: Job) -> None:
        """Also its executors end."""
        super().test_two_interrupts_end_the_job_on_the_cluster(runner, job)
        assert self.jobs() == []


@pytest.mark.long
class TestSyncs(Syncs):
    """A chain of jobs."""
