"""Fixtures that tests of embedding share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.virtual_time import virtual_time

__all__ = ["virtual_time"]


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    """An endpoint of the test's own: no late request of another test reaches it."""
    with EndpointServer() as endpoint:
        yield endpoint


@pytest.fixture(params=["virtual", pytest.param("real", marks=pytest.mark.slow)])
def either_time(request: pytest.FixtureRequest) -> str:
    """A test runs in virtual time, and once in a while in the time of the machine."""
    if request.param == "virtual":
        request.getfixturevalue("virtual_time")
    return str(request.param)
