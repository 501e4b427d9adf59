"""``vecferry export``: a job as a schedule of cron, systemd, Airflow, Argo or Kestra."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli.cron import CronTimes, cron_times
from vecferry.pipelines.cli.options import ENV_FILES, JobArguments, job_arguments
from vecferry.pipelines.cli.output import say
from vecferry.pipelines.cli.templates import write_new
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.schedule import scheduled_time
from vecferry.secrets import SECRET_NAME

JOBS = "/jobs"
"""Where a container has the files of jobs."""
WAIT_MINUTES = 5
"""How long a scheduler waits before it tries again."""


@dataclass(frozen=True)
class Schedule:
    """A job that is to run at certain times.

    Attributes:
      name: what the schedule is called.
      options: what follows ``run JOB``, without the time.
      folder: where the job's relative paths are from.
      retries: how often a run that failed is tried again.
    """

    name: str
    job: str
    options: tuple[str, ...]
    times: CronTimes
    zone: str
    folder: str
    image: str
    retries: int

    def words(self, job: str, *, at: str, program: str = "vecferry") -> list[str]:
        """The command line of a run at a time."""
        return [program, "run", job, *self.options, "--at", at, "--time-zone", self.zone]

    def contained(self, at: str, folder: str) -> list[str]:
        """The command line in a container, which has the files of `options` in a folder."""
        moved = tuple(_in_folder(word, folder) for word in self.options)
        return replace(self, options=moved).words(_in_folder(self.job, folder), at=at)


class _File(str):
    """A word of a command line that names a file."""


def _in_folder(word: str, folder: str) -> str:
    return os.path.join(folder, os.path.basename(word)) if isinstance(word, _File) else word


def cron_line(schedule: Schedule) -> dict[str, str]:
    """A line for ``crontab``; a log for each day, which cron leaves to the command."""
    command = shlex.join(schedule.words(schedule.job, at="now", program=_program()))
    folder, name = shlex.quote(schedule.folder), shlex.quote(schedule.name)
    line = f"cd {folder} && mkdir -p logs && {command} >> logs/{name}-$(date +%Y%m%d).log 2>&1"
    told = (
        "# The times are those of the machine; if that is not in "
        f"{schedule.zone}, write others.\n"
        f"{schedule.times.text} {line.replace('%', chr(92) + '%')}\n"
    )
    return {f"{schedule.name}.cron": told}


def systemd_units(schedule: Schedule) -> dict[str, str]:
    """A service and its timer; the journal keeps the logs."""
    command = " ".join(map(_unit_word, schedule.words(schedule.job, at="now", program=_program())))
    calendar = "".join(
        f"OnCalendar={value}\n" for value in schedule.times.on_calendar(schedule.zone)
    )
    unit = f"vecferry-{schedule.name}"
    service = (
        f"[Unit]\nDescription=vecferry run {schedule.name}\n"
        "Wants=network-online.target\nAfter=network-online.target\n"
        f"StartLimitIntervalSec=12h\nStartLimitBurst={schedule.retries + 1}\n\n"
        "[Service]\nType=oneshot\n"
        f"WorkingDirectory={schedule.folder.replace('%', '%%')}\n"
        f"ExecStart={command}\n"
        "# 2: the job is wrong, and another try would say so again.\n"
        f"Restart={'on-failure' if schedule.retries else 'no'}\n"
        f"RestartPreventExitStatus=2\nRestartSec={WAIT_MINUTES}min\n"
    )
    timer = (
        f"[Unit]\nDescription=vecferry run {schedule.name}, at its times\n\n"
        f"[Timer]\n{calendar}Persistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )
    return {f"{unit}.service": service, f"{unit}.timer": timer}


def _unit_word(word: str) -> str:
    """A word as systemd reads it."""
    safe = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w./:=@%$+,-]+", safe):
        return safe
    escaped = safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


_DAG = '''"""The job {name} of vecferry, made by vecferry export --to airflow."""

import subprocess
from datetime import timedelta

import pendulum
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import DAG, task

COMMAND = {command}

with DAG(
    dag_id={name!r},
    schedule={times!r},
    start_date=pendulum.datetime(2026, 1, 1, tz={zone!r}),
    catchup=False,
    max_active_runs=1,
    default_args={{"retries": {retries}, "retry_delay": timedelta(minutes={wait})}},
    tags=["vecferry"],
):

    @task
    def run(at: str) -> None:
        """Runs the job at the time of its schedule."""
        status = subprocess.call([*COMMAND, "--at", at], cwd={folder!r})
        if status == 2:  # the job is wrong, and another try would say so again
            raise AirflowFailException("vecferry ended with status 2: no row was written")
        if status:
            raise AirflowException(f"vecferry ended with status {{status}}")

    run("{{{{ (data_interval_end or dag_run.run_after).isoformat() }}}}")
'''


def airflow_dag(schedule: Schedule) -> dict[str, str]:
    """A DAG for Airflow 3, which runs vecferry of the machine of its workers."""
    words = schedule.words(schedule.job, at="", program="vecferry")
    at = words.index("--at")
    command = json.dumps([*words[:at], *words[at + 2 :]], indent=4, ensure_ascii=False)
    text = _DAG.format(
        name=schedule.name,
        command=command.replace("\n]", ",\n]"),
        times=schedule.times.text,
        zone=schedule.zone,
        retries=schedule.retries,
        wait=WAIT_MINUTES,
        folder=schedule.folder,
    )
    return {f"{schedule.name}.py": text}


def argo_workflow(schedule: Schedule) -> dict[str, str]:
    """A CronWorkflow for Argo 3.6 or newer, with jobs and secrets as deploy/kubernetes has them."""
    template = {
        "name": "run",
        "retryStrategy": {
            "limit": str(schedule.retries),
            "retryPolicy": "OnFailure",
            "expression": "asInt(lastRetry.exitCode) != 2",  # the job is wrong
            "backoff": {"duration": f"{WAIT_MINUTES}m", "factor": "2"},
        },
        "container": {
            "image": schedule.image,
            "command": ["vecferry"],
            "args": schedule.contained("{{workflow.scheduledTime}}", JOBS)[1:],
            "workingDir": "/tmp",
            "envFrom": [{"secretRef": {"name": "vecferry", "optional": True}}],
            "volumeMounts": [{"name": "jobs", "mountPath": JOBS, "readOnly": True}],
        },
    }
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": schedule.name},
        "spec": {
            "schedules": [schedule.times.text],
            "timezone": schedule.zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 600,
            "workflowSpec": {
                "entrypoint": "run",
                "templates": [template],
                "volumes": [{"name": "jobs", "configMap": {"name": "jobs"}}],
            },
        },
    }
    return {f"{schedule.name}.yaml": _yaml(workflow)}


def kestra_flow(schedule: Schedule) -> dict[str, str]:
    """A flow for Kestra; the job and its data sources are files of its namespace."""
    at = "{{ trigger.date ?? execution.startDate }}"
    command = shlex.join(schedule.contained("AT", "")).replace("--at AT", f'--at "{at}"')
    task: dict[str, Any] = {
        "id": "run",
        "type": "io.kestra.plugin.scripts.shell.Commands",
        "containerImage": schedule.image,
        "namespaceFiles": {"enabled": True},
        "commands": [command],
    }
    if schedule.retries:
        task["retry"] = {
            "type": "constant",
            "interval": f"PT{WAIT_MINUTES}M",
            "maxAttempts": schedule.retries + 1,
        }
    flow = {
        "id": schedule.name,
        "namespace": "vecferry",
        "concurrency": {"limit": 1, "behavior": "CANCEL"},
        "tasks": [task],
        "triggers": [
            {
                "id": "schedule",
                "type": "io.kestra.plugin.core.trigger.Schedule",
                "cron": schedule.times.text,
                "timezone": schedule.zone,
            }
        ],
    }
    return {f"{schedule.name}.yaml": _yaml(flow)}


def _yaml(document: object) -> str:
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=200)


def _program() -> str:
    """This vecferry, as a scheduler without a search path finds it."""
    beside = os.path.join(os.path.dirname(sys.executable), "vecferry")
    return beside if os.access(beside, os.X_OK) else shutil.which("vecferry") or "vecferry"


FORMS: dict[str, Callable[[Schedule], dict[str, str]]] = {
    "airflow": airflow_dag,
    "argo": argo_workflow,
    "cron": cron_line,
    "kestra": kestra_flow,
    "systemd": systemd_units,
}
"""By the name of a scheduler, what makes its files, by name."""


def _name(arguments: JobArguments) -> str:
    """The job's name, as all schedulers take it."""
    if arguments.is_template:
        name = arguments.job.partition(":")[2]
    else:
        raw = parse_document(Path(arguments.job), "job")
        name = str((raw.get("name") if isinstance(raw, dict) else "") or Path(arguments.job).stem)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "job"


def _options(arguments: JobArguments, env_files: tuple[str, ...]) -> list[str]:
    """What was given of the job, with whole paths. Raises JobError for what must not be shown."""
    secret = [pair for pair in arguments.parameters if SECRET_NAME.search(pair.partition("=")[0])]
    if secret:
        name = secret[0].partition("=")[0]
        raise JobError(
            f"-p {name}: a schedule would show it to whoever reads the schedule; leave it out, and "
            f"set the variable {name} where the schedule runs, or give --env-file"
        )
    words: list[str] = []
    if arguments.data_sources is not None:
        words += ["--data-sources", _File(_whole(arguments.data_sources))]
    for option, pairs in (("-p", arguments.parameters), ("--set", arguments.assignments)):
        for pair in pairs:
            words += [option, pair]
    for option, paths in (
        ("--template-dir", arguments.template_folders),
        ("--env-file", env_files),
    ):
        for path in paths:
            words += [option, _File(_whole(path))]
    if arguments.relative_to != "file":
        words += ["--relative-to", arguments.relative_to]
    return words


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


@click.command()
@click.option("--to", "form", type=click.Choice(sorted(FORMS)), required=True, help="For whom.")
@click.option("--schedule", required=True, help="Minute, hour, day, month, weekday: '30 2 * * *'.")
@click.option("--retries", type=click.IntRange(0, 100), default=2, show_default=True)
@click.option("--image", default="vecferry", show_default=True, help="The image, for containers.")
@click.option("--output", type=click.Path(file_okay=False), help="Write the files here.")
@job_arguments
@click.pass_context
def export(
    ctx: click.Context,
    arguments: JobArguments,
    form: str,
    schedule: str,
    retries: int,
    image: str,
    output: str | None,
) -> None:
    """Show JOB as a schedule that an orchestrator reads. JOB is not checked, and nothing is run."""
    if arguments.at is not None:
        raise JobError("--at: a schedule gives each run its own time; leave the option out")
    zone = arguments.time_zone or "UTC"
    scheduled_time("now", zone)  # which refuses a zone that does not exist
    made = FORMS[form](
        Schedule(
            name=_name(arguments),
            job=arguments.job if arguments.is_template else _File(_whole(arguments.job)),
            options=tuple(_options(arguments, ctx.meta.get(ENV_FILES, ()))),
            times=cron_times(schedule),
            zone=zone,
            folder=os.getcwd(),
            image=image,
            retries=retries,
        )
    )
    if output is not None:
        write_new(Path(output), made)
    elif len(made) == 1:
        say(next(iter(made.values())), end="")
    else:
        say("\n".join(f"# {name}\n{text}" for name, text in made.items()), end="")
