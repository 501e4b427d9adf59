"""A job as a schedule: what orchestrators say of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cronsim import CronSim
from hera.workflows.models import CronWorkflow

from tests.pipelines.support import Bench, Outcome, rows
from tests.services import airflow
from vecferry.errors import JobError
from vecferry.pipelines.cli.cron import cron_times

SHANGHAI = ("--time-zone", "Asia/Shanghai")
AT_NIGHT = ("--schedule", "30 2 * * *")
SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="not ours: systemd is part of the machine"
)


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A job that reads the rows of its day, in the current folder."""
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, capsys)
    bench.job["name"] = "News of $day"
    bench.step("Reader")["object"] = ["rows_${day}.jsonl"]
    return bench


def exported(bench: Bench, form: str, *arguments: str) -> Outcome:
    """The job as a schedule for an orchestrator; one parameter would be mangled if ill quoted."""
    given = ("-p", "day=$[yyyymmdd]", "-p", 'odd=100% "it\'s" $HOME', *AT_NIGHT, *SHANGHAI)
    return bench.call("export", "--to", form, *given, *arguments)


@pytest.mark.slow
def test_the_line_of_cron_runs_the_job_of_the_day(bench: Bench) -> None:
    """In the environment that cron has, as cron reads the line; the log is that of the day."""
    today = datetime.now(UTC)
    for name in {f"{today:%Y%m%d}", f"{datetime.now(UTC):%Y%m%d}"}:
        bench.write_lines(rows(3), f"rows_{name}.jsonl")
    out = exported(bench, "cron", "--time-zone", "UTC").out
    head, line = out.splitlines()
    assert head.startswith("#")
    assert line.startswith("30 2 * * * cd ")
    assert re.search(r"(?<!\\)%", line) is None
    command = line.split(" ", 5)[5].replace("\\%", "%")
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    (log,) = (bench.folder / "logs").iterdir()
    told = log.read_text()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), told
    assert re.fullmatch(r"news-of-day-\d{8}\.log", log.name)
    assert "DONE" in told
    assert len(bench.stored()) == 3


@pytest.mark.parametrize(
    "times",
    [
        "30 2 * * *", "*/15 * * * *", "0 9-17 * * 1-5", "5 4 * * sun", "0 0 1,15 * *", "0 3 31 * *",
        "0 0 1,15 * 3", "59 23 29 2 *", "10 6 * jan-mar,DEC 7", "0 12 */10 * *", "@weekly",
        "7 */5 * * *", "0 0 * * 0,6", "20/20 1 * * *",
    ],
)  # fmt: skip
@SYSTEMD
def test_systemd_wakes_when_cron_would(times: str) -> None:
    """Of a year, the first moments are the same."""
    found = cron_times(times)
    since = datetime(2026, 11, 30, 21, 0, tzinfo=UTC)
    cron = CronSim(found.text.upper().replace("20/20", "20-59/20"), since)
    expected = [next(cron).replace(tzinfo=UTC) for _ in range(12)]
    woken = {m for value in found.on_calendar("UTC") for m in moments(value, since)}
    assert sorted(woken)[:12] == expected


def moments(value: str, since: datetime) -> Iterator[datetime]:
    """The next moments of a value of ``OnCalendar=``."""
    out = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=12", f"--base-time={since:%F %T} UTC", value],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
    )
    assert out.returncode == 0, out.stderr
    for found in re.findall(r"(?:elapse|Iteration #\d+|Iter. #\d+): \w+ (\S+ \S+) UTC", out.stdout):
        yield datetime.fromisoformat(found).replace(tzinfo=UTC)


@SYSTEMD
def test_systemd_takes_the_units(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own check, which also looks for the program."""
    program = tmp_path / "bin" / "vecferry"  # for an environment that has none beside its Python
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    out = exported(bench, "systemd", "--output", "units").out
    units = ["units/vecferry-news-of-day.service", "units/vecferry-news-of-day.timer"]
    assert out.split() == units
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "vecferry" in line]
    assert ours == []
    service = Path(units[0]).read_text()
    assert "RestartPreventExitStatus=2" in service
    assert '"odd=100%% \\"it\'s\\" $$HOME"' in service
    assert "OnCalendar=*-*-* 02:30:00 Asia/Shanghai" in Path(units[1]).read_text()


def test_argo_takes_the_workflow(bench: Bench) -> None:
    """Its models know every field, so that nothing is lost on the way through them."""
    document = yaml.safe_load(exported(bench, "argo", "--image", "registry/vecferry:1").out)
    model = CronWorkflow.model_validate(document)
    dumped = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    assert without_empty(dumped) == document
    container = document["spec"]["workflowSpec"]["templates"][0]["container"]
    assert (container["image"], container["command"]) == ("registry/vecferry:1", ["vecferry"])
    begin = ["run", "/jobs/job.json", "--data-sources", "/jobs/sources.json"]
    assert container["args"][:4] == begin
    assert "{{workflow.scheduledTime}}" in container["args"]


def without_empty(value: Any) -> Any:
    """A document without what is empty."""
    if isinstance(value, dict):
        kept = {name: without_empty(part) for name, part in value.items()}
        return {name: part for name, part in kept.items() if part not in ({}, [], None)}
    return [without_empty(part) for part in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_airflow_takes_the_dag(bench: Bench) -> None:
    """By the loader of its own, in an environment of its own."""
    exported(bench, "airflow", "--output", "dags", "--retries", "4")
    (bench.folder / "home").mkdir()
    found = json.loads(airflow.loaded(bench.folder / "dags", bench.folder / "home"))
    assert found["errors"] == []
    assert found["dags"] == {
        "news-of-day": {"tasks": ["run"], "schedule": "30 2 * * *", "retries": [4], "runs": 1}
    }


def test_the_flow_of_kestra_has_what_its_pages_say(bench: Bench) -> None:
    """Kestra has no package for Python, so that this is not its own word."""
    flow = yaml.safe_load(exported(bench, "kestra").out)
    (command,) = flow["tasks"][0]["commands"]
    assert '--at "{{ trigger.date ?? execution.startDate }}"' in command
    assert command.startswith("vecferry run job.json --data-sources sources.json ")
    assert flow["triggers"][0]["cron"] == "30 2 * * *"
    assert flow["tasks"][0]["retry"]["maxAttempts"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--schedule", "30 2 * *"), "has 4 fields and not 5"),
        (("--schedule", "60 2 * * *"), "'60' is not a minute: write numbers from 0 to 59"),
        (("--schedule", "0 2 * * mo"), "'mo' is not a weekday"),
        (("--schedule", "0 2 0 * *"), "'0' is not a day"),
        (("--schedule", "*/0 2 * * *"), "'*/0' is not a minute"),
        (("--schedule", "0 9-8 * * *"), "'9-8' is not a hour"),
        (("--at", "now"), "a schedule gives each run its own time"),
        (("--time-zone", "Asia/Shangai"), "did you mean 'Asia/Shanghai'"),
        (("-p", "API_KEY=sk-0123456789"), "set the variable API_KEY where the schedule runs"),
    ],
)
def test_what_no_schedule_can_hold_is_refused(
    bench: Bench, arguments: tuple[str, ...], said: str
) -> None:
    """A key is not shown in the message either."""
    outcome = exported(bench, "cron", *arguments)
    assert (outcome.status, said in outcome.err) == (2, True), outcome.err
    assert "sk-0123" not in outcome.err + outcome.out


def test_env_files_and_paths_are_whole(bench: Bench) -> None:
    """A scheduler starts in another folder."""
    Path("job.env").write_text("A=1\n")
    out = exported(bench, "cron", "--env-file", "job.env", "--relative-to", "cwd").out
    assert f"--env-file {bench.folder}/job.env --relative-to cwd" in out


def test_a_template_is_exported_by_its_name(bench: Bench) -> None:
    """Its parameters are those of the command line."""
    given = ("--to", "argo", *AT_NIGHT, "-p", "collection=news")
    outcome = bench.line("export", "template:files-to-milvus", *given)
    workflow = yaml.safe_load(outcome.out)
    assert workflow["metadata"]["name"] == "files-to-milvus"
    (template,) = workflow["spec"]["workflowSpec"]["templates"]
    assert template["container"]["args"][1] == "template:files-to-milvus"


def test_a_nickname_is_five_fields() -> None:
    """Not all orchestrators know nicknames."""
    assert cron_times("@daily").text == "0 0 * * *"
    with pytest.raises(JobError):
        cron_times("@reboot")
