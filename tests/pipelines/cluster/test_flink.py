"""Jobs on a real Flink cluster: on a jobmanager and two taskmanagers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.cluster import Afar, Job, Runner
from tests.contracts.cluster_endless import Endless
from tests.contracts.cluster_extra import Extra
from tests.contracts.cluster_following import Following, Leaving
from tests.contracts.cluster_kills import Kills, ancestors, python_workers
from tests.contracts.cluster_sync import Syncs
from tests.contracts.cluster_templates import SmallElasticsearch, Templates
from tests.contracts.cluster_workers import Pools, Workers
from tests.services.flink import Flink
from tests.services.server import eventually, running, stop

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.heavy(server=Flink)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Flink]:
    """Started once for all tests that are marked with it."""
    yield running(Flink)
    stop(SmallElasticsearch)


@pytest.fixture(scope="module")
def runner(cluster: Flink) -> Runner:
    """Workers are processes that vecferry-worker starts."""
    return Runner("FlinkRunner", cluster.beam_options, committed=True)


class TestContract(Afar):
    """What every runner must do."""


@pytest.mark.long
class TestTemplates(Templates):
    """The server of vectors is not part of the cluster."""


class TestKills(Kills):
    """Two streams, so that one TaskManager is enough."""

    @pytest.fixture
    def runner(self, runner: Runner, cluster: Flink) -> Iterator[Runner]:
        """Both TaskManagers are there before and after."""
        self.cluster = cluster
        yield runner.plus("--parallelism=2")
        for part in cluster.task_managers:
            if part.process is None:
                part.start()
        eventually(lambda: cluster.slots() == 4)

    def kill_host(self) -> None:
        """The first of the two that has a worker process."""
        busy = {pid for worker in python_workers() for pid in ancestors(worker)}
        part = next(p for p in self.cluster.task_managers if p.process and p.process.pid in busy)
        part.kill()

    def end_of_orphan(self) -> None:
        """Flink goes on without the client."""
        eventually(lambda: not self.cluster.jobs("RUNNING", "RESTARTING", "CREATED"))

    @pytest.mark.long
    def test_a_killed_client_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The job goes on to its end without it; run again, it asks for nothing twice."""
        super().test_a_killed_client_costs_no_row(runner, job)
        outcome = job.run(runner)
        assert outcome.status == 0, outcome.err
        self.nothing_lost(job, again=0)


@pytest.mark.long
class TestWorkers(Workers):
    """Though Flink would start the job again twenty times."""


@pytest.mark.long
class TestExtra(Extra):
    """Packages come from the job server."""


@pytest.mark.long
class TestPools(Pools):
    """One pool for both TaskManagers, one stream."""


class TestFollowing(Following, Leaving):
    """Flink's own REST interface knows what runs."""

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Flink) -> None:
        self.cluster = cluster

    def jobs(self) -> list[str]:
        """Those of Flink, not those of the job server."""
        found = self.cluster.jobs("RUNNING", "RESTARTING", "CREATED", "CANCELLING")
        return [job["name"] for job in found]


class TestSyncs(Syncs):
    """A chain of jobs."""


@pytest.mark.long
class TestEndless(Endless):
    """A source that never ends."""
