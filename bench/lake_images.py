"""How much memory a job takes whose images are BLOBs of a Paimon table.

Usage::

    python -m bench.lake_images                     1,000 images of 5 MB: 5 GB in a temporary folder
    python -m bench.lake_images --images 100

Needs ``vecferry[all,paimon]``. Each image is a JPEG of its own. They come as bytes, and then as the
places of BLOBs, which the threads of images read; each run is a process of its own. The endpoint is
a process as well, and takes 100 ms an image. The target is in memory. The peak is to stay under
1 GB.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.lake_common import commit, reader, step, write_job

GOAL_MIB = 1000
SIDES = 2070, 2070
"""Of a JPEG of noise that has about 5 MB."""
AT_ONCE = 20
DIMENSION = 768
FORMS = ("bytes", "places")


def _serve(address: Any) -> None:
    from tests.transforms.embed.endpoints.server import EndpointServer

    server = EndpointServer(
        default_dimension=DIMENSION,
        image_formats=("JPEG",),
        max_image_bytes=8 << 20,
        latency=0.1,
        record=False,
    )
    with server:
        address.put(server.url.removesuffix("/v1"))
        time.sleep(10**6)


@contextmanager
def endpoint() -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    process = context.Process(target=_serve, args=(address,), daemon=True)
    process.start()
    try:
        yield address.get(timeout=60)
    finally:
        process.terminate()


def picture() -> bytes:
    """A JPEG of noise."""
    from PIL import Image

    noise = np.random.default_rng(1).integers(0, 256, (*SIDES, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    return file.getvalue()


def fill(folder: Path, images: int) -> int:
    """Makes the table `db.t`; gives how many bytes an image has."""
    from pypaimon import CatalogFactory, Schema

    catalog = CatalogFactory.create({"warehouse": str(folder / "warehouse")})
    catalog.create_database("db", True)
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("pic", pa.large_binary())])
    options = {"row-tracking.enabled": "true", "data-evolution.enabled": "true"}
    catalog.create_table("db.t", Schema.from_pyarrow_schema(schema, options=options), False)
    content = picture()
    for first in range(0, images, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, images))
        # The number stands behind the end of the picture, and makes it a file of its own.
        pictures = ([[n], [content + n.to_bytes(8)]] for n in numbers)
        commit(catalog, *(pa.table(one, schema=schema) for one in pictures))
    return len(content)


def write_images_job(folder: Path, url: str, form: str) -> None:
    """The job, with images as bytes or as places."""
    embed = {
        "modelProvider": "aiSearch",
        "modelName": "ops-m2-encoder",
        "apiKey": "sk-test",
        "endpoint": url,
        "dimension": DIMENSION,
        "embeddingColumns": {
            "sourceColumnNames": ["pic"],
            "embeddingColumnName": "vector",
            "inputType": "image",
        },
    }
    read: dict[str, Any] = {"scanMode": "full"}
    if form == "places":
        read["blobAsDescriptor"] = True
        embed["imageDatasource"] = "Lake"
    writer = step("held", "writer", {"name": "held", "column": ["id", "vector"]})
    steps = [reader(**read), step("embedding-transformer", "map", embed), writer]
    write_job(folder, form, steps, {})


def _run(folder: str, answer: Any) -> None:
    """One run, in a process of its own."""
    from tests.contracts import sync_memory
    from vecferry.io.sink import WRITTEN
    from vecferry.pipelines import registry
    from vecferry.pipelines.job.resolve import read_and_resolve
    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.options import RunOptions

    def forget(self: Any, records: Any) -> Any:
        return [WRITTEN] * len(records)  # the memory is not to hold the images as well

    sync_memory.HeldStore.send = forget  # type: ignore[method-assign]
    for kind in sync_memory.KINDS:
        registry.register(kind)
    place = Path(folder)
    resolved = read_and_resolve(str(place / "job.json"), data_sources=str(place / "sources.json"))
    began = time.perf_counter()
    report = run_job(resolved, RunOptions(rejects=str(place / "rejects")))
    assert report.state == "DONE", report.error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = round(time.perf_counter() - began, 1)
    answer.put({"written": report.rows_written, "seconds": seconds, "MiB peak": round(peak)})


def main() -> None:
    """Prints a line of JSON for each form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    options = parser.parse_args()
    images = options.images
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        size = fill(folder, images)
        for form in options.forms:
            write_images_job(folder, url, form)
            context = multiprocessing.get_context("spawn")
            answer = context.Queue()
            process = context.Process(target=_run, args=(name, answer))
            process.start()
            process.join()
            assert process.exitcode == 0
            told = answer.get()
            assert told["written"] == images
            line = {"images": images, "bytes each": size, "as": form, **told, "goal": GOAL_MIB}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
