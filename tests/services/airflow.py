"""Airflow, in an environment of its own: what it needs does not live beside Beam."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.services.install import Unavailable, package

RELEASES = ("apache-airflow-core==3.3.2", "apache-airflow-task-sdk==1.3.2")
"""The latest as of November 2026."""

_LOAD = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dags = {
    name: {"tasks": [task.task_id for task in dag.tasks], "schedule": dag.schedule,
           "retries": [task.retries for task in dag.tasks], "runs": dag.max_active_runs}
    for name, dag in bag.dags.items()
}
print("found", json.dumps({"errors": list(bag.import_errors.values()), "dags": dags}))
"""


def loaded(folder: Path, home: Path) -> str:
    """What Airflow finds in a folder of DAGs, as JSON; `home` is for its own files."""
    made = package(f"airflow-{RELEASES[0].rpartition('=')[2]}", _make)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "PYTHONPATH": "",
    }
    out = subprocess.run(
        [made / "venv/bin/python", "-W", "ignore", "-c", _LOAD, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home,
    )
    _, found, told = out.stdout.partition("found ")
    assert found, out.stdout + out.stderr
    return told.splitlines()[0]


def _make(folder: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    venv = folder / "venv"
    for line in (
        [uv, "venv", "--relocatable", "--python", sys.executable, str(venv)],
        [uv, "pip", "install", "--python", str(venv / "bin/python"), *RELEASES],
    ):
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"Airflow can't be installed: {done.stderr[-500:]}")
