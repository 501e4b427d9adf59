"""Jobs on Beam's own local runners: the one of Python, and Prism."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contracts.cluster import HERE, Contract, Job, Runner
from tests.services.install import Unavailable
from tests.services.prism import indoors, prism

pytestmark = [pytest.mark.service, pytest.mark.slow]


class TestFnApiRunner(Contract):
    """The runner of Python, in a process of its own."""

    @pytest.fixture
    def runner(self) -> Runner:
        """No cluster."""
        return HERE


class TestPrism(Contract):
    """Prism, started by the job."""

    @pytest.fixture
    def runner(self) -> Runner:
        """Its program is named, so that Beam downloads none."""
        try:
            program = prism()
        except Unavailable as e:
            pytest.skip(f"prism can't be had here: {e}")
        return Runner("PrismRunner", [f"--prism_location={program}"], committed=True)

    def at(self, runner: Runner, job: Job) -> Runner:
        """In a network of its own, from which the test's servers can be reached."""
        ports = indoors(job.endpoint.port, job.server.port)
        return replace(runner, prefix=ports)
