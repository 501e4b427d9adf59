"""Spark 3.5: a master, a worker with two executors and Beam's job server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.services.beam_java import JOB_SERVER, OPENS, SMALL, job_server
from tests.services.cluster import Cluster, Part
from tests.services.install import jars, java, package
from tests.services.server import eventually, free_port

BEAM = "2.70.0"
JARS = (
    f"org.apache.beam:beam-runners-spark-3:{BEAM}",
    "org.apache.beam:beam-runners-java-job-service:2.65.0",
    "org.apache.spark:spark-core_2.12:3.5.0",
    "org.apache.spark:spark-streaming_2.12:3.5.0",
    "org.apache.spark:spark-sql_2.12:3.5.0",
    "org.slf4j:slf4j-api:2.0.7",  # else an older one wins, and nothing is logged
)
_LOG = """
rootLogger.level = info
rootLogger.appenderRef.e.ref = e
appender.e.type = Console
appender.e.name = e
appender.e.target = SYSTEM_ERR
appender.e.layout.type = PatternLayout
appender.e.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class _SparkPart(Part):
    """Spark's own environment."""

    home = Path()

    def environment(self) -> Mapping[str, str]:
        """The folder of jars passes for an installation of Spark."""
        return {
            **super().environment(),
            "SPARK_HOME": str(self.home),
            "SPARK_SCALA_VERSION": "2.12",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_HOSTNAME": "127.0.0.1",
            "SPARK_NO_DAEMONIZE": "1",
        }


class Spark(Cluster):
    """One machine with two cores for executors of one core each."""

    name = "spark"
    cores = 2

    @property
    def master(self) -> str:
        """The master's address."""
        return f"spark://127.0.0.1:{self.port}"

    @property
    def beam_options(self) -> list[str]:
        """What names this cluster on the command line."""
        return [f"--job_endpoint={self.job_endpoint}", f"--parallelism={self.cores}"]

    @property
    def job_server(self) -> Part:
        """The process that drives jobs."""
        return self.parts[-1]

    def install(self) -> None:
        """The jars, and a folder of links to them that passes for an installation."""
        self._java = java(17)
        self._jars = package(f"spark-3.5.0-beam-{BEAM}", lambda f: jars(f, *JARS))

    def prepare(self) -> None:
        """Jars, the log's configuration."""
        self._home = self.data / "home"
        (self._home / "jars").mkdir(parents=True)
        for jar in self._jars.glob("*.jar"):
            (self._home / "jars" / jar.name).symlink_to(jar)
        conf = self._home / "conf"
        conf.mkdir()
        (conf / "log4j2.properties").write_text(_LOG)

    def start(self) -> None:
        """Master, worker, job server."""
        deploy = "org.apache.spark.deploy"
        at = ["--host", "127.0.0.1", "--webui-port", str(free_port())]
        work = ["--cores", str(self.cores), "--memory", "2g", "--work-dir", str(self.data / "work")]
        worker = [f"{deploy}.worker.Worker", *at, *work, self.master]
        self.parts = [
            self._part(
                "spark-master",
                self._jvm(f"{deploy}.master.Master", *at, "--port", str(self.port)),
                self.port,
            ),
            self._part("spark-worker", self._jvm(*worker)),
            self._part("spark-job-server", self._driver(), self.job_port),
        ]
        self.parts[1].ready = lambda: None  # type: ignore[method-assign]
        for part in self.parts:
            part.start()
        registered = self.parts[1].log
        eventually(lambda: "Successfully registered" in registered.read_text(errors="replace"))

    def _part(self, name: str, command: list[str], port: int | None = None) -> Part:
        part = _SparkPart(name, command, port)
        part.home = self._home
        return part

    def _jvm(self, entry: str, *more: str) -> list[str]:
        path = ["-cp", f"{self._home / 'conf'}:{self._jars}/*", entry]
        return [self._java, *OPENS, *SMALL, "-Xmx256m", *path, *more]

    def _driver(self) -> list[str]:
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.cores.max": str(self.cores),
            "spark.default.parallelism": str(self.cores),  # else what has come up by then
            "spark.executor.cores": "1",
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": " ".join([*OPENS, *SMALL]),
        }
        command = job_server(
            self._java, self._jars, "org.apache.beam.runners.spark.SparkJobServerDriver"
        )
        command[-1] = f"{self._home / 'conf'}:{command[-1]}"
        return [
            *command,
            "-Xmx512m",
            *(f"-D{name}={value}" for name, value in settings.items()),
            JOB_SERVER,
            "--job-host=127.0.0.1",
            f"--job-port={self.job_port}",
            f"--artifact-port={free_port()}",
            f"--expansion-port={free_port()}",
            f"--artifacts-dir={self.data / 'artifacts'}",
            f"--spark-master-url={self.master}",
        ]
