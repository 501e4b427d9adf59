"""A folder of documents whose sync is killed again and again, into the real stores."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.folder import Papers, Tables, chunk_writer, write_papers
from tests.contracts.sync import AT_MOST_IN_FLIGHT, DEATHS, DIMENSION, differences, embedded
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, StorePlace, stores_of
from tests.effort import LONG, some
from tests.services.postgres import Postgres
from tests.transforms.embed.endpoints.server import EndpointServer

pytestmark = [pytest.mark.service, pytest.mark.slow]

DOCUMENTS, EDITS, KILLS = (200, 300, 10) if LONG else (20, 30, 3)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """10 ms a request."""
    with EndpointServer(latency=0.01) as server:
        yield server


@pytest.fixture(params=stores_of(Postgres))
def store(request: pytest.FixtureRequest) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    place = STORES[request.param][0](DIMENSION)
    yield place
    place.close()


@pytest.mark.parametrize("seed", some(range(6), 1))
def test_a_folder_is_in_step_though_its_sync_is_killed_again_and_again(
    seed: int, store: StorePlace, endpoint: EndpointServer, nursery: Nursery, tmp_path: Path
) -> None:
    """Chunk by chunk as a fresh load; a chunk is paid for once, but for those under way."""
    chance = random.Random(seed)
    papers = (Papers, Tables)[seed % 2](tmp_path, chance, DOCUMENTS)
    job, sources = write_papers(
        tmp_path,
        papers,
        chunk_writer(store),
        endpoint.url,
        {"Store": store.source()},
        round_files=40,
        speed={"concurrent": 8},
    )
    line = ["run", str(job), "-d", str(sources), "--rejects", str(tmp_path / "rejects")]
    deaths = [*DEATHS, *[("", 0)] * 4]
    chance.shuffle(deaths)
    edits = 0
    for at, times in deaths[:KILLS]:
        process = nursery.start(*line, "--continuous", at=at, times=times)
        moment = time.monotonic() + chance.uniform(0.05, 3)
        while nursery.status(process) is None:
            papers.edit(2)
            edits += 2
            time.sleep(0.1)
            if not at and time.monotonic() > moment:
                os.kill(process, signal.SIGKILL)
        assert nursery.status(process) == -signal.SIGKILL, nursery.log.read_text()
    papers.edit(max(1, EDITS - edits))
    process = nursery.start(*line)
    assert nursery.ended(process) == 0, nursery.log.read_text()
    assert differences(papers.expected(), store.found()) == []
    process = nursery.start("verify", str(job), "-d", str(sources))
    assert nursery.ended(process) == 0, nursery.log.read_text()
    inputs = embedded(endpoint)
    assert set(inputs) <= papers.seen
    assert len(inputs) <= len(set(inputs)) + KILLS * AT_MOST_IN_FLIGHT
