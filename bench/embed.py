"""How full the engine keeps an endpoint: requests a second against the ideal, at the server.

The endpoint runs in a process of its own and takes 100 ms for a request of 10 inputs; the ideal is
``in flight x 10 / 0.1 s``. What is measured runs side by side in a process each: vecferry's engine
in a Beam pipeline, and a plain thread pool over requests without Beam. Prints ratios.

    python -m bench.embed [--seconds 20] [--in-flight 16 64]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LATENCY = 0.1
BATCH = 10
DIMENSION = 1024
WORDS = "ferry harbour river lighthouse captain passenger timetable bridge anchor tide".split()  # noqa: SIM905


def text_of(i: int) -> str:
    """A text of some 200 letters, distinct for each number."""
    return f"{i} " + " ".join(WORDS[(i >> shift) % 10] for shift in range(26))


@contextmanager
def endpoint(json_floats: bool) -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.endpoint_server", "--latency-ms", str(LATENCY * 1000)]
    command += ["--json-floats"] if json_floats else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def through_beam(url: str, rows: int, in_flight: int) -> int:
    """Embeds rows in a Beam pipeline on FnApiRunner, into a counting sink; gives the rows."""
    import apache_beam as beam

    from vecferry.process import run_state
    from vecferry.steps import StepContext
    from vecferry.transforms.embed import Embed
    from vecferry.transforms.embed_settings import EmbedSettings

    settings = EmbedSettings(
        model_provider="openai",
        model_name="text-embedding-v4",
        api_key="sk-test",
        endpoint=url,
        dimension=DIMENSION,
        embedding_columns=[{"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}],
    )
    context = StepContext(
        step="Embed", step_type="embedding-transformer", concurrent=in_flight, stamped=False
    )

    class CountRows(beam.DoFn):
        def start_bundle(self) -> None:
            self.rows = 0

        def process(self, row: dict[str, Any]) -> None:
            assert len(row["vector"]) == DIMENSION
            self.rows += 1

        def finish_bundle(self) -> None:
            run_state("bench").add({"rows": self.rows})

    def texts(count: int) -> Iterator[dict[str, Any]]:
        return ({"id": i, "text": text_of(i)} for i in range(count))

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        embedded = (
            pipeline
            | beam.Create([rows], reshuffle=False)
            | beam.FlatMap(texts)
            | Embed(settings=settings, context=context)
        )
        embedded.rows | beam.ParDo(CountRows())
    return run_state("bench").counts()["rows"]


def through_pool(url: str, rows: int, in_flight: int) -> int:
    """A plain loop: a thread pool over requests, vectors as base64; gives the rows."""
    import base64
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import requests

    local = threading.local()

    def embed(batch: list[str]) -> int:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        body = {
            "model": "text-embedding-v4",
            "input": batch,
            "dimensions": DIMENSION,
            "encoding_format": "base64",
        }
        headers = {"Authorization": "Bearer sk-test"}
        answer = local.session.post(f"{url}/embeddings", json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        found = 0
        for item in answer.json()["data"]:
            value = item["embedding"]
            if isinstance(value, str):
                vector = np.frombuffer(base64.b64decode(value), "<f4")
            else:
                vector = np.array(value, np.float32)
            found += len(vector) == DIMENSION
        return found

    batches = ([text_of(i + k) for k in range(BATCH)] for i in range(0, rows, BATCH))
    with ThreadPoolExecutor(in_flight) as pool:
        return sum(pool.map(embed, batches))


CONTESTANTS = {"vecferry": through_beam, "pool": through_pool}


def measure(name: str, in_flight: int, seconds: float, json_floats: bool) -> dict[str, Any]:
    """Runs a contestant in its own process; what the server saw, and the ratio to the ideal."""
    ideal = in_flight * BATCH / LATENCY
    rows = int(ideal * seconds) // BATCH * BATCH
    with endpoint(json_floats) as url:
        command = [
            sys.executable,
            "-m",
            "bench.embed",
            "--run",
            name,
            url,
            str(rows),
            str(in_flight),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        with urllib.request.urlopen(f"{url}/stats") as answer:
            seen = json.load(answer)
    assert int(done.stdout.split()[0]) == rows == seen["inputs"]
    rate = seen["inputs"] / seen["seconds"]
    cpu = float(done.stdout.split()[1])
    return {"ratio": rate / ideal, "rows_s": rate, "cpu_us_row": cpu / rows * 1e6, **seen}


def main() -> None:
    """Prints a line for each contestant, shape of vectors and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--only", choices=list(CONTESTANTS))
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, url, rows, in_flight = options.run
        print(CONTESTANTS[name](url, int(rows), int(in_flight)), time.process_time())
        return
    print(
        "in flight  vectors      what      rows/s  of ideal  requests  most under way  CPU µs/row"
    )
    for in_flight in options.in_flight:
        for json_floats in (False, True):
            for name in [options.only] if options.only else CONTESTANTS:
                seen = measure(name, in_flight, options.seconds, json_floats)
                shape = "JSON floats" if json_floats else "base64"
                print(
                    f"{in_flight:9}  {shape:11}  {name:8}  {seen['rows_s']:6.0f}  "
                    f"{seen['ratio']:8.3f}  {seen['requests']:8}  {seen['most_under_way']:14}  "
                    f"{seen['cpu_us_row']:10.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
