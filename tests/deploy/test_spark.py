"""The recipe for Spark, run on a real Spark cluster: jobs are sent to a job server of spark-submit.

Spark's jars come from Maven here, without its scripts. So a script of these tests stands for
``spark-submit``. The script starts the class behind it, with the arguments that it was given, on
jars that are there already. The job server listens on loopback only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.contracts.cluster import Job, Runner
from tests.services.beam_java import JOB_SERVER, OPENS, SMALL, job_server_classes
from tests.services.cluster import ROOT, Part
from tests.services.server import free_port, running, stop
from tests.services.spark import Spark
from tests.transforms.embed.endpoints.server import EndpointServer

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.heavy(server=Spark),
]

SUBMIT = """#!/usr/bin/env bash
set -euo pipefail
arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --packages) echo "packages $2"; shift 2 ;;
    --class) arguments+=(--class {loopback}); driver=$2; shift 2 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
exec {java} -Dtests.driver="${{driver}}" org.apache.spark.deploy.SparkSubmit "${{arguments[@]}}"
"""


class Recipe(Part):
    """The job server as the recipe starts it, with a ``SPARK_HOME`` of these tests."""

    def __init__(self, cluster: Spark, home: Path) -> None:
        jars, self.home = cluster._jars, home
        path = f"{cluster._home / 'conf'}:{job_server_classes(jars)}:{jars}/*"
        java = [cluster._java, *OPENS, *SMALL, "-Xmx512m", "-cp", f"'{path}'"]
        submit = home / "bin" / "spark-submit"
        submit.parent.mkdir(parents=True)
        submit.write_text(SUBMIT.format(loopback=JOB_SERVER, java=" ".join(java)))
        submit.chmod(0o755)
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.cores.max": str(cluster.cores),
            "spark.executor.cores": "1",
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": " ".join([*OPENS, *SMALL]),
        }
        more = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        script = str(ROOT / "deploy" / "spark" / "job-server.sh")
        super().__init__("spark-recipe", [script, cluster.master, *more], free_port())

    def environment(self) -> Mapping[str, str]:
        """What the recipe says of itself."""
        return {
            **super().environment(),
            "SPARK_HOME": str(self.home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "JOB_PORT": str(self.port),
            "ARTIFACT_PORT": str(free_port()),
            "ARTIFACTS": str(self.data / "artifacts"),
        }


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Recipe]:
    """In place of the cluster's own job server."""
    cluster = running(Spark)
    cluster.job_server.stop()
    server = Recipe(cluster, tmp_path / "spark")
    server.start()
    yield server
    server.stop()
    stop(Spark)


def test_a_job_is_sent_to_the_job_server_of_the_recipe(recipe: Recipe, tmp_path: Path) -> None:
    """Every row is written with its vector, every other one is a reject."""
    (tmp_path / "job").mkdir()
    with EndpointServer() as endpoint:
        job = Job(tmp_path / "job", endpoint)
        job.write(200, 4, bad=True)
        options = [f"--job_endpoint=127.0.0.1:{recipe.port}", f"--parallelism={Spark.cores}"]
        report = job.run(Runner("SparkRunner", options, False)).report
        assert (report["state"], report["rows_written"]) == ("DONE", 200), report["error"]
        assert job.wrong() == []
        assert len(job.rejects(report)) == 12
    log = recipe.log.read_text(errors="replace")
    assert "packages org.apache.beam:beam-runners-spark-3:" in log
    assert "Connected to Spark cluster with app ID" in log
