"""The main job against a hand-written loop of the same libraries, side by side.

Usage::

    python bench/main_job.py                      100,000 rows, into Milvus Lite and into a counter
    python bench/main_job.py --rows 20000 --sinks count --rounds 5
    python bench/main_job.py --memory             resident memory at 100,000 and at 1,000,000 rows

Both read the same file of JSON lines, take two fields, embed the text in this process, 64 a call,
and write. The side "loop" is what one would write by hand: orjson, wordllama, pymilvus, nothing
else. The side "ours" is `vecferry run` of a job file. Each run has a process of its own, and the
two take turns, so a busy machine is busy for both. Imports and the loading of the model are not
part of the times; they are printed as start-up.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

DIMENSION = 256
GOALS = {"milvus": 0.9, "count": 0.7}
MEMORY_ROWS = (100_000, 1_000_000)
MEMORY_GOAL = 1.15


def write_texts(path: Path, rows: int) -> None:
    """`rows` JSON lines of distinct texts: 30 to 60 words of what packages say of themselves."""
    words = [
        word
        for d in importlib.metadata.distributions()
        for word in str(d.metadata.get_payload() or "").split()
        if len(word) < 20
    ]
    chance = random.Random(7)
    with path.open("wb") as out:
        for n in range(rows):
            start, length = chance.randrange(len(words) - 60), chance.randint(30, 60)
            text = " ".join([f"No. {n}:", *words[start : start + length]])
            out.write(orjson.dumps({"id": f"doc-{n:08d}", "lang": "en", "text": text}) + b"\n")


# --- the loop ------------------------------------------------------------------------------------


def load_model() -> Any:
    """wordllama from its wheel, offline."""
    import wordllama

    folder = os.path.dirname(wordllama.__file__)
    return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)


def embedded(path: Path, model: Any) -> Iterator[dict[str, Any]]:
    """The rows of a file with their vectors, embedded 64 a call."""
    batch: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for line in lines:
            document = orjson.loads(line)
            batch.append({"id": document["id"], "text": document["text"]})
            if len(batch) == 64:
                yield from with_vectors(batch, model)
                batch = []
    yield from with_vectors(batch, model)


def with_vectors(batch: list[dict[str, Any]], model: Any) -> list[dict[str, Any]]:
    """The rows of one call, each with its vector."""
    if batch:
        vectors = model.embed([row["text"] for row in batch])
        for row, vector in zip(batch, vectors, strict=True):
            row["vector"] = vector
    return batch


def make_collection(client: Any) -> None:
    """The collection that the job would create."""
    from pymilvus import DataType

    schema = client.create_schema(enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("text", DataType.VARCHAR, max_length=4096)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
    client.create_collection("docs", schema=schema, index_params=index)


def run_loop(path: Path, sink: str, folder: Path) -> tuple[int, float]:
    """What one would write by hand; gives the rows and the moment at which it began to work."""
    model = load_model()
    model.embed(["warm"])
    client: Any = None
    if sink == "milvus":
        from pymilvus import MilvusClient

        client = MilvusClient(str(folder / "loop.db"))
    begun = time.monotonic()
    if client is not None:
        make_collection(client)
    rows = 0
    buffer: list[dict[str, Any]] = []
    for row in embedded(path, model):
        rows += 1
        if client is None:
            continue
        buffer.append(row)
        if len(buffer) == 1024:
            client.upsert("docs", buffer)
            buffer = []
    if buffer:
        client.upsert("docs", buffer)
    if client is not None:
        client.close()
    return rows, begun


# --- the job -------------------------------------------------------------------------------------


def write_job(path: Path, sink: str, folder: Path) -> tuple[Path, Path]:
    """A job file and its data sources for one run."""
    text = {"fromColumn": "line", "type": "STRING"}
    columns = [
        {"name": "id", "type": "VarChar", "primaryKey": True, "maxLength": 64},
        {"name": "text", "type": "VarChar", "maxLength": 4096},
        {"name": "vector", "type": "FloatVector", "dimension": DIMENSION},
    ]
    milvus = {"datasource": "Vectors", "collection": "docs", "batchSize": 1024, "column": columns}
    count = {"column": ["id", "text", "vector"]}
    steps = [
        step("file", "reader", datasource="Files", object=[path.name], fileFormat="jsonl",
             column=[{"name": "line", "index": 0, "type": "string"}]),
        step("json-extracting", "flatmap", column=[
            {"name": "id", "jsonPath": "$.id", **text},
            {"name": "text", "jsonPath": "$.text", **text}]),
        step("embedding-transformer", "map", modelProvider="local", batchSize=64,
             dimension=DIMENSION,
             embeddingColumns={"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}),
        step(sink, "writer", **(milvus if sink == "milvus" else count)),
    ]  # fmt: skip
    job, sources = folder / "job.json", folder / "datasources.yaml"
    job.write_text(json.dumps({"type": "job", "version": "2.0", "steps": steps, "setting": {}}))
    connections = {
        "Files": {"type": "local", "path": str(path.parent)},
        "Vectors": {"type": "milvus", "endpoint": str(folder / "ours.db")},
    }
    sources.write_text(json.dumps(connections))
    return job, sources


def step(step_type: str, category: str, **parameter: Any) -> dict[str, Any]:
    """A step as it stands in a job file, named by its category."""
    name = f"{category} {step_type}"
    return {"stepType": step_type, "category": category, "name": name, "parameter": parameter}


def run_ours(path: Path, sink: str, folder: Path) -> tuple[int, float]:
    """`vecferry run` of the job; gives the rows and the moment at which it began to work."""
    import counting_sink

    from vecferry.pipelines import cli
    from vecferry.pipelines.run import launch  # noqa: F401  launch: so that Beam counts as start-up
    from vecferry.transforms.embed import EmbedSettings
    from vecferry.transforms.embed.endpoints.local import LocalEndpoint

    counting_sink.register()
    job, sources = write_job(path, sink, folder)
    settings = {"modelProvider": "local", "dimension": DIMENSION, "embeddingColumns": []}
    settings["embeddingColumns"] = [{"sourceColumnNames": ["a"], "embeddingColumnName": "b"}]
    LocalEndpoint(EmbedSettings.model_validate(settings).endpoint_spec, 1).embed(["warm"])
    report = folder / "report.json"
    begun = time.monotonic()
    arguments = ["run", str(job), "--data-sources", str(sources), "--report", str(report)]
    arguments += ["--workers", "1"]  # as the loop has one process
    try:
        cli.main([*arguments, "--rejects", str(folder / "rejects")])
    except SystemExit as e:
        if e.code not in (0, None):
            raise
    found = json.loads(report.read_text())
    assert found["rows_written"] == found["rows_read"], found
    return int(found["rows_written"]), begun


# --- side by side --------------------------------------------------------------------------------


def child(kind: str, path: Path, sink: str, folder: Path) -> None:
    """One run in this process; prints what it took as JSON."""
    started = time.monotonic()
    run = run_ours if kind == "ours" else run_loop
    rows, begun = run(path, sink, folder)
    taken = {
        "rows": rows,
        "begun": begun,
        "start_up": begun - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print("\n" + json.dumps(taken))


def measure(kind: str, path: Path, sink: str) -> dict[str, float]:
    """One run in a process of its own.

    The clock stops when the process has ended: Milvus Lite still has work to do when it is closed.
    """
    with tempfile.TemporaryDirectory(prefix="vecferry-bench-") as folder:
        command = [sys.executable, __file__, "--child", kind, "--file", str(path)]
        command += ["--sinks", sink, "--folder", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        ended = time.monotonic()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{kind} into {sink} failed:\n{done.stdout}\n{done.stderr}")
    told = [line for line in done.stdout.splitlines() if line.startswith('{"rows"')]
    found: dict[str, float] = json.loads(told[-1])
    found["seconds"] = ended - found["begun"]
    found["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def compare(path: Path, sink: str, rounds: int) -> bool:
    """Runs both in turns and prints rows/s and their ratio; whether the goal is met."""
    speeds: dict[str, list[float]] = {"loop": [], "ours": []}
    for turn in range(rounds):
        for kind in ("loop", "ours") if turn % 2 == 0 else ("ours", "loop"):
            found = measure(kind, path, sink)
            speed = found["rows"] / found["seconds"]
            speeds[kind].append(speed)
            print(
                f"  {sink:7} {kind}: {speed:8,.0f} rows/s, {found['seconds']:6.2f} s, "
                f"CPU {found['cpu']:6.2f} s, start-up {found['start_up']:.2f} s, "
                f"peak {found['peak_mb']:,.0f} MB",
                flush=True,
            )
    ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["loop"])
    verdict = "met" if ratio >= GOALS[sink] else "MISSED"
    print(f"{sink}: ours / loop = {ratio:.2f} (goal {GOALS[sink]}: {verdict})", flush=True)
    return ratio >= GOALS[sink]


def compare_memory(folder: Path) -> bool:
    """Prints the peak of resident memory for few and for many rows; whether the goal is met."""
    peaks = []
    for rows in MEMORY_ROWS:
        path = folder / f"{rows}.jsonl"
        write_texts(path, rows)
        found = measure("ours", path, "count")
        path.unlink()
        peaks.append(found["peak_mb"])
        print(f"  {rows:9,} rows: peak {found['peak_mb']:,.0f} MB, {found['seconds']:.1f} s")
    ratio = peaks[1] / peaks[0]
    verdict = "met" if ratio <= MEMORY_GOAL else "MISSED"
    print(f"memory: {ratio:.3f} of the smaller run (goal {MEMORY_GOAL}: {verdict})")
    return ratio <= MEMORY_GOAL


def main() -> None:
    """Reads the command line; exit status 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--sinks", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--memory", action="store_true", help="memory instead of speed")
    parser.add_argument("--child", choices=["loop", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.file, args.sinks[0], args.folder)
        return
    with tempfile.TemporaryDirectory(prefix="vecferry-bench-") as folder:
        if args.memory:
            sys.exit(0 if compare_memory(Path(folder)) else 1)
        path = Path(folder) / "texts.jsonl"
        write_texts(path, args.rows)
        print(f"{args.rows:,} rows, {path.stat().st_size / 2**20:.0f} MB")
        met = [compare(path, sink, args.rounds) for sink in args.sinks]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
