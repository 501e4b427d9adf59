"""What several tests of runs begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.sync_place import Place
from tests.transforms.embed.endpoints.server import EndpointServer


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """A server of vectors without latency."""
    with EndpointServer() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, endpoint: EndpointServer) -> Place:
    """A job with an empty table."""
    return Place(tmp_path, endpoint)
