"""How throughput grows with workers on Flink and Spark, where the endpoint is what takes time.

The cluster is real and runs on this computer. It has four machines, each a TaskManager of one slot
or an executor of one core. The endpoint is a process of its own, takes 200 ms for a request of 10
inputs and gives 256 dimensions. A job of 1 to 4 streams has 4 requests in flight a stream; its
writer only counts. Prints rows a second at the server, from the first request to the last answer.
Also prints the share of what one worker did, times workers.

Usage::

    python -m bench.clusters [--clusters Flink Spark] [--workers 1 2 4] [--seconds 40]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.embed_endpoint import KEY, endpoint, seen_by, text_of
from tests.services.cluster import ROOT, Cluster, worker_environment
from tests.services.flink import Flink
from tests.services.spark import Spark

BATCH, IN_FLIGHT, LATENCY, DIMENSION, FILES = 10, 4, 0.2, 256, 16
IDEAL = IN_FLIGHT * BATCH / LATENCY


class FourTaskManagers(Flink):
    """A slot each, so that each stream has a worker process of its own."""

    machines, slots_each = 4, 1


class FourExecutors(Spark):
    """A core each."""

    cores = 4


CLUSTERS = {"Flink": FourTaskManagers, "Spark": FourExecutors}


def run_vecferry() -> None:
    """The command line, with a writer that only counts."""
    from vecferry.pipelines import cli, registry

    names = ("CountSettings", "CountTarget", "CountRows")
    classes = (f"bench.counting_sink:{name}" for name in names)
    registry.register(registry.Kind("count", "writer", *classes))
    cli.main(sys.argv[1:])


def job(folder: Path, url: str, workers: int, rows: int) -> list[str]:
    """Writes the job's files; gives the arguments that name them."""
    (folder / "in").mkdir()
    for number in range(FILES):
        lines = [json.dumps({"text": text_of(i)}) for i in range(number, rows, FILES)]
        (folder / "in" / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    steps = [
        {
            "stepType": "file",
            "category": "reader",
            "name": "Reader",
            "parameter": {
                "datasource": "Files",
                "object": ["*.jsonl"],
                "fileFormat": "jsonl",
                "column": [{"name": "line", "index": 0, "type": "string"}],
            },
        },
        {
            "stepType": "json-extracting",
            "category": "flatmap",
            "name": "Extract",
            "parameter": {
                "column": [
                    {"name": "text", "fromColumn": "line", "jsonPath": "$.text", "type": "STRING"}
                ]
            },
        },
        {
            "stepType": "embedding-transformer",
            "category": "flatmap",
            "name": "Embed",
            "parameter": {
                "modelProvider": "openai",
                "modelName": "m",
                "endpoint": url,
                "apiKey": KEY,
                "batchSize": BATCH,
                "dimension": DIMENSION,
                "embeddingColumns": {
                    "sourceColumnNames": ["text"],
                    "embeddingColumnName": "vector",
                },
            },
        },
        {
            "stepType": "count",
            "category": "writer",
            "name": "Writer",
            "parameter": {"column": ["text", "vector"]},
        },
    ]
    setting = {"speed": {"concurrent": str(IN_FLIGHT * workers)}}
    definition = {"type": "job", "version": "2.0", "name": "bench", "steps": steps}
    (folder / "job.json").write_text(json.dumps({**definition, "setting": setting}))
    sources = {"Files": {"type": "local", "path": str(folder / "in")}}
    (folder / "sources.json").write_text(json.dumps(sources))
    named = ["--data-sources", str(folder / "sources.json"), "--rejects", str(folder / "rejects")]
    return [str(folder / "job.json"), *named, "--shared-files", "--json"]


def measure(name: str, cluster: Cluster, workers: int, seconds: float) -> dict[str, Any]:
    """Runs the job once; gives what the server saw."""
    rows = int(IDEAL * workers * seconds) // BATCH * BATCH
    options = [o for o in cluster.beam_options if not o.startswith("--parallelism")]  # type: ignore[attr-defined]
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint("--latency-ms", str(LATENCY * 1000)) as url,
    ):
        client = [sys.executable, "-c", "from bench.clusters import run_vecferry; run_vecferry()"]
        named = job(Path(folder), url, workers, rows)
        done = subprocess.run(
            [
                *client,
                "run",
                *named,
                f"--runner={name}Runner",
                f"--parallelism={workers}",
                *options,
            ],
            cwd=ROOT,
            env={**os.environ, **worker_environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:] + done.stdout[-3000:])
        seen = seen_by(url)
    assert json.loads(done.stdout)["rows_written"] == rows == seen["inputs"]
    return {"rows_s": rows / seen["seconds"], **seen}


def main() -> None:
    """Prints a line for each cluster and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", nargs="*", default=list(CLUSTERS), choices=list(CLUSTERS))
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=40)
    arguments = parser.parse_args()
    for name in arguments.clusters:
        cluster: Any = CLUSTERS[name]()
        cluster.install()
        cluster.prepare()
        try:
            cluster.start()
            measure(name, cluster, 4, 2)  # what is cold once is not measured
            one = 0.0
            for workers in arguments.workers:
                seen = measure(name, cluster, workers, arguments.seconds)
                one = one or seen["rows_s"] / workers
                print(
                    f"{name:6} {workers} workers  {seen['rows_s']:7.0f} rows/s  "
                    f"{seen['rows_s'] / (IDEAL * workers):.2f} of the ideal  "
                    f"{seen['rows_s'] / (one * workers):.2f} of linear  "
                    f"at most {seen['most_under_way']} in flight",
                    flush=True,
                )
        finally:
            cluster.stop()
            cluster.remove()


if __name__ == "__main__":
    main()
