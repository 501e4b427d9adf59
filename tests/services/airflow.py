"""Airflow, in an environment of its own: what it needs does not live beside Beam."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.services.install import package, virtual_environment

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
    made = package(
        f"airflow-{RELEASES[0].rpartition('=')[2]}",
        lambda part: virtual_environment(part / "venv", *RELEASES),
    )
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
