"""This machine, Flink and Spark, for a test that is to come to the same on each."""

from __future__ import annotations

import pytest

from tests.contracts.cluster import HERE, Runner
from tests.services.flink import Flink
from tests.services.server import running
from tests.services.spark import Spark

RUNNERS = [
    pytest.param(None, id="here"),
    pytest.param(Flink, id="flink", marks=[pytest.mark.heavy(server=Flink), pytest.mark.long]),
    pytest.param(Spark, id="spark", marks=[pytest.mark.heavy(server=Spark), pytest.mark.long]),
]


@pytest.fixture(params=RUNNERS)
def each_runner(request: pytest.FixtureRequest) -> Runner:
    """One after the other."""
    if request.param is None:
        return HERE
    name = f"{request.param.__name__}Runner"
    return Runner(name, running(request.param).beam_options, committed=request.param is Flink)
