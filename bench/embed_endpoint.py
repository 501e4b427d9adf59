"""What the benches of embedding share: a server in a process of its own, and texts for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BATCH = 10
LATENCY = 0.1
LATENCY_OPTION = ("--latency-ms", str(LATENCY * 1000))
DIMENSION = 1024
MODEL = "text-embedding-v4"
KEY = "sk-test"
WORDS = "ferry harbour river lighthouse captain passenger timetable bridge anchor tide".split()  # noqa: SIM905


def text_of(i: int) -> str:
    """A text of some 200 letters, distinct for each number."""
    return f"{i} " + " ".join(WORDS[(i >> shift) % 10] for shift in range(26))


@contextmanager
def endpoint(*options: str) -> Iterator[str]:
    """The base URL of the tests' endpoint server, started with these options."""
    command = [sys.executable, "-m", "tests.transforms.embed.endpoints.server", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def authority(tls: bool) -> Iterator[tuple[str, ...]]:
    """The server's options for TLS with a certificate that this process trusts from now on."""
    if not tls:
        yield ()
        return
    from tests.contracts.http import write_authority  # which the environment of a rival lacks

    with tempfile.TemporaryDirectory() as folder:
        pem, key = f"{folder}/authority.pem", f"{folder}/key.pem"
        write_authority(Path(pem), Path(key))
        os.environ["SSL_CERT_FILE"] = pem
        os.environ.pop("REQUESTS_CA_BUNDLE", None)
        yield ("--tls", pem, key)


def seen_by(url: str) -> dict[str, Any]:
    """What the server at `url` counted."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        counts: dict[str, Any] = json.load(answer)
    return counts


def engine_settings(url: str, **more: Any) -> Any:
    """The settings of vecferry's step for that server."""
    from vecferry.transforms.embed import EmbedSettings

    column = {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}
    return EmbedSettings(
        model_provider="openai",
        model_name=MODEL,
        api_key=KEY,
        endpoint=url,
        embedding_columns=[column],
        **{"dimension": DIMENSION, **more},
    )


def through_engine(url: str, rows: int, in_flight: int, **settings: Any) -> int:
    """Embeds rows in a Beam pipeline on FnApiRunner, into a counting sink; gives the rows."""
    import apache_beam as beam

    from vecferry.process import end_run, run_state
    from vecferry.steps import RunContext, StepContext
    from vecferry.transforms.embed import Embed

    engine = engine_settings(url, **settings)
    context = StepContext(
        step="Embed",
        step_type="embedding-transformer",
        shared=RunContext(concurrent=in_flight),
        stamped=False,
    )

    class CountRows(beam.DoFn):
        def start_bundle(self) -> None:
            self.rows = 0

        def process(self, row: dict[str, Any]) -> None:
            assert len(row["vector"]) == engine.dimension
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
            | Embed(settings=engine, context=context)
        )
        embedded.rows | beam.ParDo(CountRows())
    counted = run_state("bench").counts()["rows"]
    end_run("bench")
    return counted
