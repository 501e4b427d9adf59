"""Jobs on a real Spark cluster: on a master and two executors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster_contract import Contract, Runner
from tests.services.server import running, stop
from tests.services.spark import Spark

pytestmark = [pytest.mark.service, pytest.mark.slow]


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
