"""Jobs on a real Flink cluster: on a jobmanager and two taskmanagers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster_contract import Contract, Runner
from tests.services.flink import Flink
from tests.services.server import running, stop

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Flink]:
    """Started once for this module, and stopped to make room for the next."""
    yield running(Flink)
    stop(Flink)


@pytest.fixture
def runner(cluster: Flink) -> Runner:
    """Workers are processes that vecferry-worker starts."""
    return Runner("FlinkRunner", cluster.beam_options, committed=True)


class TestContract(Contract):
    """What every runner must do."""

    @pytest.fixture
    def runner(self, runner: Runner) -> Runner:
        """The cluster."""
        return runner
