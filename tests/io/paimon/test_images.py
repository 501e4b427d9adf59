"""Images of lake tables, in each form that a column may hold, on their way into a target."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import DATABASE, WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.contracts import sync_memory
from tests.contracts.sync_memory import Held, held
from tests.io.paimon.support import Warehouse, rows_of
from tests.pipelines.support import Bench, rejects_of
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.images.support import ImageServer, file_of, pixels, png
from vecferry.errors import JobError
from vecferry.pipelines import registry

DIMENSION = 768
PNG, JPEG, WEBP = png(1), file_of(pixels(2), "JPEG"), file_of(pixels(3), "WEBP")
TRUNCATED = png(4)[:2000]


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    formats = ("JPEG", "PNG", "BMP", "WEBP")
    with EndpointServer(default_dimension=DIMENSION, image_formats=formats) as server:
        yield server


class Images:
    """A job that embeds column `pic` of a table, and a target in memory."""

    def __init__(self, bench: Bench, server: EndpointServer) -> None:
        self.bench, self.name = bench, uuid.uuid4().hex
        self.warehouse = Warehouse(bench.folder / "warehouse")
        for kind in sync_memory.KINDS:
            registry.register(kind)
        bench.sources["Lake"] = {"type": "paimon", "options": self.warehouse.options}
        embedded = {
            "sourceColumnNames": ["pic"],
            "embeddingColumnName": "vector",
            "inputType": "image",
        }
        reader = {"datasource": "Lake", "database": DATABASE, "table": "t", "scanMode": "full"}
        step = {
            "modelProvider": "aiSearch", "modelName": "ops-m2-encoder", "apiKey": "sk-test",
            "endpoint": server.url.removesuffix("/v1"), "dimension": DIMENSION,
            "embeddingColumns": embedded, "allowPrivateAddresses": True,
        }  # fmt: skip
        writer = {"name": self.name, "column": ["id", "vector"]}
        bench.job = {
            "type": "job",
            "version": "2.0",
            "name": self.name,
            "steps": [
                self._step("paimon", "reader", "Read", reader | {"column": ["id", "pic"]}),
                self._step("embedding-transformer", "map", "Embed", step),
                self._step("held", "writer", "Write", writer),
            ],
            "setting": {"errorLimit": {}},
        }

    def _step(self, kind: str, category: str, name: str, parameter: Any) -> dict[str, Any]:
        return {"stepType": kind, "category": category, "name": name, "parameter": parameter}

    @property
    def held(self) -> Held:
        """What the target holds."""
        return held(self.name)

    def make(self, rows: dict[str, Any], kind: pa.DataType, *, blob: bool = False) -> None:
        """The table `t`: ids and pictures; a BLOB needs a table without a key."""
        schema = pa.schema([pa.field("id", pa.string(), nullable=False), ("pic", kind)])
        if blob:
            options = {"row_tracking__enabled": "true", "data_evolution__enabled": "true"}
            self.table = self.warehouse.make("t", schema, **options)
        else:
            self.table = self.warehouse.make("t", schema, keys=["id"], bucket="1")
        if rows:
            self.write(rows)

    def write(self, rows: dict[str, Any]) -> None:
        """A commit of ids and pictures."""
        self.table.write([{"id": key, "pic": value} for key, value in rows.items()])

    def run(self, state: str = "DONE") -> dict[str, str]:
        """Runs the job; gives the reason of the reject of each row."""
        report = self.bench.run("--workers", "1")  # the target is in the memory of this process
        assert report["state"] == state, report["error"]
        found = rejects_of(report) if report["rejects"] else []
        return {line["row"]["id"]: line["reason"] for line in found}


@pytest.fixture
def images(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: EndpointServer) -> Images:
    return Images(Bench(tmp_path, capsys), server)


def good(images: Images, expected: dict[str, bytes]) -> bool:
    """Whether the target holds just these rows, each with the vector of its image."""
    there = images.held.there()
    assert there.keys() == expected.keys()
    return all(
        (there[key]["vector"] == vector_of(content, DIMENSION)).all()
        for key, content in expected.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("blob", [False, True], ids=["BYTES", "BLOB"])
def test_pictures_in_a_column_of_bytes_are_embedded_and_a_broken_one_is_rejected(
    images: Images, blob: bool
) -> None:
    """PNG, JPEG and WebP; a truncated file, and one of 20 MB that the model does not take."""
    rows = {
        "png": PNG, "jpeg": JPEG, "webp": WEBP, "cut": TRUNCATED, "text": b"no image at all",
        "large": png(5, 2600, 2600),
    }  # fmt: skip
    assert len(rows["large"]) > 20_000_000
    images.make(rows, pa.large_binary() if blob else pa.binary(), blob=blob)
    rejected = images.run()
    assert good(images, {"png": PNG, "jpeg": JPEG, "webp": WEBP})
    assert rejected.keys() == {"cut", "text", "large"}
    assert rejected["large"] == "image-too-large"


@pytest.mark.slow
def test_a_picture_of_20_mb_is_scaled_where_the_job_says_so(images: Images) -> None:
    """It becomes a vector like the others."""
    images.make({"large": png(5, 2600, 2600), "small": PNG}, pa.binary())
    images.bench.step("Embed")["imageMaxPixels"] = 200_000
    assert images.run() == {}
    assert images.held.there().keys() == {"large", "small"}


@pytest.mark.slow
def test_texts_are_base64_addresses_or_paths(images: Images) -> None:
    """An address that nobody knows and a path without a file cost their rows only."""
    folder = images.bench.folder / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    images.bench.sources["Pictures"] = {"type": "local", "path": str(folder)}
    images.bench.step("Embed")["imageDatasource"] = "Pictures"
    with ImageServer({"/b.jpg": JPEG, "/cut.png": TRUNCATED}) as host:
        rows = {
            "path": "a.png", "url": host.url("/b.jpg"), "base64": base64.b64encode(WEBP).decode(),
            "gone": host.url("/nowhere.png"), "no file": "b.png", "cut": host.url("/cut.png"),
        }  # fmt: skip
        images.make(rows, pa.string())
        rejected = images.run()
    assert good(images, {"path": PNG, "url": JPEG, "base64": WEBP})
    assert rejected.keys() == {"gone", "no file", "cut"}
    assert rejected["gone"] == rejected["no file"] == "image-not-found"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keep", "delete", "withoutVector"])
def test_a_picture_that_became_bad_goes_as_the_job_says(images: Images, mode: str) -> None:
    """A change whose image is broken: the old row stays, goes, or stays without its vector."""
    images.make({"a": PNG, "b": JPEG}, pa.binary())
    reader, setting = images.bench.step("Read"), images.bench.job["setting"]
    reader["scanMode"] = "full-then-incremental"
    setting |= {"positions": str(images.bench.folder / "state"), "onReject": mode}
    assert images.run() == {}
    images.write({"a": TRUNCATED})
    assert images.run().keys() == {"a"}
    there = images.held.there()
    assert (there["b"]["vector"] == vector_of(JPEG, DIMENSION)).all()
    if mode == "delete":
        assert "a" not in there
    elif mode == "keep":
        assert (there["a"]["vector"] == vector_of(PNG, DIMENSION)).all()
    else:
        assert there["a"]["vector"] is None


@pytest.mark.slow
def test_blobs_come_as_places_that_the_threads_of_images_read(images: Images) -> None:
    """A row is small until its image is loaded; the vectors are those of the contents."""
    rows = {"png": PNG, "jpeg": JPEG, "webp": WEBP, "cut": TRUNCATED, "none": None}
    images.make(rows, pa.large_binary(), blob=True)
    images.bench.step("Read")["blobAsDescriptor"] = True
    images.bench.step("Embed").update(imageDatasource="Lake", skipEmptyValue=True)
    source = images.warehouse.source("t", blobAsDescriptor=True)
    places = {row["id"]: row["pic"] for row in rows_of(source)}
    assert all(place.startswith(f"{DATABASE}.t/") for place in places.values() if place)
    assert images.run().keys() == {"cut"}
    assert images.held.rows.pop("none")["vector"] is None
    assert good(images, {"png": PNG, "jpeg": JPEG, "webp": WEBP})


def test_a_place_leads_into_its_table_only(images: Images) -> None:
    """Whatever a row says."""
    images.make({"a": PNG}, pa.large_binary(), blob=True)
    files = images.warehouse.connection.open_files()
    with pytest.raises(JobError, match="is not the place of a BLOB"):
        files.relative("/etc/passwd")
    for uri in ("/etc/passwd", f"{images.warehouse.options['warehouse']}/shop.db/t/../../x"):
        with pytest.raises(JobError, match="is not a file of table"):
            files.open(files.relative(f"{DATABASE}.t/{uri}#0+10"))
