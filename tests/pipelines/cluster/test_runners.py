"""What a runner can't do is refused in words, before anything runs."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, rows
from tests.shared.endless_source import TickSettings
from vecferry.errors import JobError
from vecferry.pipelines import registry
from vecferry.pipelines.cluster import runners
from vecferry.pipelines.cluster.requirements import complaint, missing, worker_requirements
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.options import ClusterOptions, RunOptions
from vecferry.steps import RunContext, StepContext

AWAY = f"http://milvus-{os.getpid()}:19530"
"""A target that other processes of tests do not write into at the same time."""
SPARK = ("--runner", "SparkRunner", "--job_endpoint=127.0.0.1:1")


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job from files into a file of Milvus Lite."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(list(rows(3)))
    return bench


@pytest.fixture
def listener() -> Any:
    """Somebody who speaks gRPC, as a job server does."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def resolved(bench: Bench) -> Any:
    """The job, checked."""
    return read_and_resolve(bench.save(), data_sources=str(bench.folder / "sources.json"))


def chosen(bench: Bench, runner: str, *options: str, **cluster: Any) -> runners.RunnerConfig:
    """Where the job runs."""
    how = ClusterOptions(**{"shared_files": True, **cluster})
    given = RunOptions(runner=runner, beam_options=options, cluster=how)
    return runners.choose(given, resolved(bench))


def test_what_only_this_machine_has_is_refused_all_at_once(bench: Bench) -> None:
    """A folder, a file of Milvus Lite, a vector cache, the folder of rejects."""
    bench.job["setting"] = {"vectorCache": {"uri": "sqlite:///cache.db"}}
    outcome = bench.call("run", *SPARK)
    assert outcome.status == 2
    for words in ("Milvus Lite", "data source path", "setting.vectorCache", "--rejects"):
        assert words in outcome.err
    assert "--shared-files" in outcome.err


def test_files_that_workers_share_must_be_named_in_full(bench: Bench) -> None:
    """Workers start in another folder."""
    bench.sources["Files"]["path"] = "in"
    bench.sources["Vectors"]["endpoint"] = AWAY
    outcome = bench.call("run", *SPARK, "--shared-files", "--relative-to", "cwd")
    assert "write it from / on" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FlinkRunner"], "needs --flink_master=HOST:8081"),
        (["FlinkRunner", "--flink_master=127.0.0.1:1"], "the JobManager can't be reached"),
        (["PortableRunner"], "needs --job_endpoint"),
        (["SparkRunner", "--job_endpoint=127.0.0.1:1"], "a Beam job server can't be reached"),
        (["SparkRunner", "--spark_master_url=spark://127.0.0.1:1"], "Spark's master can't be"),
        (["PortableRunner", "--job_endpoint=nowhere"], "must be HOST:PORT"),
        (["SparkRunner"], "needs --job_endpoint=HOST:PORT of Beam's job server"),
        (["PrismRunner", "--prism_location=/no/prism"], "is not a program"),
        (["DirectRunner", "--detach"], "it needs a cluster"),
        (["DirectRunner", "--shared-files"], "--shared-files: it is about workers elsewhere"),
        (["DirectRunner", "--secrets", "worker"], "--secrets worker: it is about workers"),
        (["DataflowRunner"], "jobs are run on DirectRunner, FnApiRunner, FlinkRunner, SparkRunner"),
        (["DaskRunner"], "or on PortableRunner through the job server of another one\n"),
        (["FlinkRuner"], "did you mean 'FlinkRunner'?"),
        (["DirectRunner", "--flink_master=h:8081"], "add --runner FlinkRunner"),
        (["SparkRunner", "--parallelism=many", "--environment_type=LOOPBACK"], "invalid int"),
    ],
)
def test_an_address_or_option_that_can_not_work_is_named(
    bench: Bench, arguments: list[str], words: str
) -> None:
    """With exit status 2, and before anything is waited for."""
    begun = time.monotonic()
    bench.sources["Vectors"]["endpoint"] = AWAY
    there = [] if arguments[0] == "DirectRunner" else ["--shared-files"]
    outcome = bench.call("run", *there, "--runner", *arguments)
    assert outcome.status == 2
    assert words in outcome.err
    assert time.monotonic() - begun < 300  # a server that is away is waited for ten minutes


@pytest.mark.slow
def test_a_server_that_is_no_job_server_is_not_waited_for(bench: Bench) -> None:
    """Such as the REST port of Flink in its place: Beam alone would wait without end and words."""
    bench.sources["Vectors"]["endpoint"] = AWAY
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"--job_endpoint=127.0.0.1:{silent.getsockname()[1]}"
        outcome = bench.call("run", "--shared-files", "--runner", "PortableRunner", at)
    assert outcome.status == 2
    assert "does not answer as a job server of Beam" in outcome.err


@pytest.mark.slow
def test_a_source_without_an_end_is_refused_on_spark(bench: Bench, listener: int) -> None:
    """With the two ways out."""
    classes = (
        f"tests.shared.endless_source:{n}" for n in ("TickSettings", "TickReader", "ReadTicks")
    )
    kind = registry.Kind("ticks", "reader", *classes)
    registry.register(kind)
    bench.job["steps"][:2] = [
        {"stepType": "ticks", "category": "reader", "name": "Ticks", "parameter": {}}
    ]
    bench.sources["Vectors"]["endpoint"] = AWAY
    with pytest.raises(JobError, match="catch-up run"):
        chosen(bench, "SparkRunner", f"--job_endpoint=127.0.0.1:{listener}")
    assert TickSettings().endless


@pytest.mark.slow
def test_streams_are_no_more_than_the_job_allows(bench: Bench, listener: int) -> None:
    """`speed.concurrent` bounds them, whatever the command line asks for."""
    bench.sources["Vectors"]["endpoint"] = AWAY
    at = f"--job_endpoint=127.0.0.1:{listener}"
    bench.job["setting"] = {}
    assert chosen(bench, "SparkRunner", at).parallelism == runners.STREAMS
    bench.job["setting"] = {"speed": {"concurrent": "6"}}
    assert chosen(bench, "SparkRunner", at).parallelism == 6
    assert chosen(bench, "SparkRunner", at, "--parallelism=2").parallelism == 2
    assert chosen(bench, "SparkRunner", at, "--parallelism=9").parallelism == 6
    assert chosen(bench, "PrismRunner", at).parallelism == 1
    assert not chosen(bench, "PrismRunner", at).apart
    shared = RunContext(concurrent=6, parallelism=2)
    assert StepContext(step="s", step_type="t", shared=shared).in_flight() == 3


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_nothing_in_the_folder_of_rejects(
    bench: Bench, listener: int
) -> None:
    """What the launcher wrote there for workers goes, since there are none."""
    bench.sources["Vectors"]["endpoint"] = "http://127.0.0.1:1"
    at = f"--job_endpoint=127.0.0.1:{listener}"
    outcome = bench.call("run", "--runner", "SparkRunner", at, "--shared-files")
    assert outcome.status == 2
    assert "127.0.0.1:1" in outcome.err
    assert not list((bench.folder / "rejects").glob("*"))


def test_a_worker_says_all_that_it_lacks(bench: Bench) -> None:
    """Each with the remedy."""
    needs = worker_requirements(resolved(bench))
    assert missing(needs) == []
    assert needs["clients"] == {
        "pymilvus": "vecferry[milvus]",
        "milvus_lite": "vecferry[milvus]",
        "wordllama": "vecferry[local]",
    }
    assert "s3fs" in worker_requirements(resolved(bench), "s3://bucket/rejects")["clients"]
    needs["python"] = "2.7"
    needs["packages"]["vecferry"] = "9.9"
    needs["clients"] = {"no_such_client": "vecferry[milvus]"}
    needs["environment"] = ["NO_SUCH_SECRET"]
    text = complaint(missing(needs))
    for words in ("2.7", "vecferry==9.9", "vecferry[milvus]", "no NO_SUCH_SECRET"):
        assert words in text


def test_a_worker_needs_the_package_that_a_step_is_from(bench: Bench) -> None:
    """In the client's version; a step that a program registered itself needs its module there."""
    names = ("MemorySettings", "MemoryTarget", "KeepRows")
    kind = registry.Kind("memory", "writer", *(f"tests.io.sink.memory:{name}" for name in names))
    found = SimpleNamespace(KINDS=(kind,))
    dist = SimpleNamespace(name="pytest", version="0")
    point = SimpleNamespace(name="memory", value="x", module="x", dist=dist, load=lambda: found)
    bench.job["steps"][-1] = memory_sink.step()
    needs = worker_requirements(resolved(bench))
    assert needs["modules"] == ["tests"]
    assert missing({**needs, "modules": ["no_such_module"]})[0].startswith(
        "it lacks no_such_module"
    )
    with registry.using(registry.Registry(entry_points=lambda: [point])):
        needs = worker_requirements(resolved(bench))
    assert needs["modules"] == []
    assert needs["packages"]["pytest"] == pytest.__version__
    assert missing(needs) == []
    needs["packages"]["pytest"] = "0.0"
    (problem,) = missing(needs)
    assert "pip install 'pytest==0.0' there" in problem


def test_what_a_runner_says_is_cut_down_to_what_matters() -> None:
    """The last Python error, else the Java cause that still says what it was about."""
    python = "java.lang.RuntimeException: x\nTraceback\n  File\nvalue.ValueError: no 7 [while]\n"
    assert root_cause(RuntimeError(python)) == "value.ValueError: no 7 [while]"
    java = (
        'java.lang.Exception: failed: java.io.IOException: Cannot run program "w": error=2\n'
        '\tat x\nCaused by: java.io.IOException: Cannot run program "w": error=2\n'
        "Caused by: java.io.IOException: error=2\n"
    )
    assert root_cause(RuntimeError(java)) == 'Cannot run program "w": error=2'
