"""Images in stores of files, on real servers: their data source may be any that files have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.files import Place
from tests.io.files.stores.support import STORES, place_in
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.images.support import DIMENSION, image_settings, png
from tests.transforms.embed.support import context, good, rejects, run
from vecferry.transforms.embed.engine import Embedder


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each store."""
    with place_in(request.param, tmp_path) as found:
        yield found


def test_paths_lead_into_any_store_of_files(place: Place) -> None:
    """Read by several threads at once; what is not there, or outside, costs its row."""
    for i in range(12):
        place.put(f"pictures/{i} ü.png", png(i))
    paths = [f"pictures/{i} ü.png" for i in range(12)] + ["pictures/none.png", "../../x.png"]
    with EndpointServer() as server:
        settings = image_settings(server, imageDatasource="Pictures", retryDeadlineSeconds=20)
        engine = Embedder(settings, place.connection, context())
        out = run(engine, [{"id": i, "pic": path} for i, path in enumerate(paths)])
    assert len(good(out)) == 12
    for change in good(out):
        assert (change["vector"] == vector_of(png(change["id"]), DIMENSION)).all()
    assert {r.reason for r in rejects(out)} == {"image-not-found", "image-outside"}
