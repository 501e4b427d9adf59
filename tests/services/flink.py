"""Flink 1.19: a JobManager, two TaskManagers and Beam's job server, each a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.services.beam_java import JOB_SERVER, OPENS, SMALL, job_server
from tests.services.cluster import Cluster, Part
from tests.services.install import jars, java, package
from tests.services.server import eventually, free_port

BEAM = "2.62.0"  # newer ones lack a jar, or stop at streaming jobs
JARS = (f"org.apache.beam:beam-runners-flink-1.19:{BEAM}", "org.slf4j:slf4j-simple:1.7.30")

_CONF = """
jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: {rpc}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
blob.server.port: {blob}
taskmanager.cpu.cores: 1.0
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.managed.size: 128m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 64m
taskmanager.memory.jvm-overhead.max: 64m
taskmanager.numberOfTaskSlots: {slots}
state.checkpoints.dir: file://{data}/checkpoints
state.savepoints.dir: file://{data}/savepoints
heartbeat.timeout: 6000
heartbeat.interval: 1000
slot.request.timeout: 20000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 20
restart-strategy.fixed-delay.delay: 1 s
io.tmp.dirs: {data}/tmp
"""


class Flink(Cluster):
    """Two TaskManagers of two slots each; failed jobs are started again up to twenty times."""

    name = "flink"
    machines, slots_each = 2, 2

    @property
    def url(self) -> str:
        """The REST interface of the JobManager."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def beam_options(self) -> list[str]:
        """What names this cluster on the command line."""
        return [f"--flink_master={self.url}", f"--job_endpoint={self.job_endpoint}"]

    @property
    def task_managers(self) -> list[Part]:
        """The two that run jobs."""
        return [part for part in self.parts if part.name.startswith("flink-tm")]

    def install(self) -> None:
        """One set of jars is all three kinds of processes."""
        self._java = java(17)
        self._jars = package(f"flink-1.19-beam-{BEAM}", lambda f: jars(f, *JARS))

    def prepare(self) -> None:
        """Writes the configuration."""
        conf = _CONF.format(
            rpc=free_port(), rest=self.port, blob=free_port(), slots=self.slots_each, data=self.data
        )
        (self.data / "flink-conf.yaml").write_text(conf)

    def start(self) -> None:
        """The JobManager, then the rest at once."""
        manager = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        runner = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        artifacts = str(self.data / "artifacts")
        self.parts = [
            Part("flink-jm", self._jvm(384, manager), self.port),
            *(
                Part(f"flink-tm{i}", self._jvm(512, runner, "-D", f"taskmanager.resource-id=tm{i}"))
                for i in range(self.machines)
            ),
            Part("flink-job-server", self._job_server(artifacts), self.job_port),
        ]
        for part in self.task_managers:
            part.ready = self.get_overview  # type: ignore[method-assign]
        for part in self.parts:
            part.start()
        eventually(lambda: self.slots() == self.machines * self.slots_each)

    def _jvm(self, heap: int, entry: str, *more: str) -> list[str]:
        path = ["-cp", f"{self._jars}/*", entry, "--configDir", str(self.data)]
        return [self._java, *OPENS, *SMALL, f"-Xmx{heap}m", *path, *more]

    def _job_server(self, artifacts: str) -> list[str]:
        return [
            *job_server(
                self._java, Path(self._jars), "org.apache.beam.runners.flink.FlinkJobServerDriver"
            ),
            "-Xmx384m",
            JOB_SERVER,
            f"--flink-master=127.0.0.1:{self.port}",
            "--job-host=127.0.0.1",
            f"--job-port={self.job_port}",
            f"--artifact-port={free_port()}",
            f"--expansion-port={free_port()}",
            f"--artifacts-dir={artifacts}",
            f"--flink-conf-dir={self.data}",
        ]

    def get(self, path: str) -> Any:
        """An answer of the REST interface."""
        answer = requests.get(self.url + path, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def get_overview(self) -> None:
        """Asks whether the JobManager answers."""
        self.get("/overview")

    def slots(self) -> int:
        """How many slots there are, taken or free."""
        return int(self.get("/overview")["slots-total"])

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """The jobs that are in one of `states`, or all."""
        found = self.get("/jobs/overview")["jobs"]
        return [job for job in found if not states or job["state"] in states]
