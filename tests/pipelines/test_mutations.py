"""Any job, data source or template is told in words: never by a traceback, and never by silence."""

from __future__ import annotations

import copy
import json
import random
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

from tests.effort import some
from tests.pipelines.mutations import STRANGE, written
from tests.pipelines.support import main_job
from tests.pipelines.templates.test_templates import NEEDED, parameters
from vecferry.pipelines.cli import main
from vecferry.pipelines.templates.job import render_template
from vecferry.pipelines.templates.library import OWN_FOLDER

ROOT = Path(__file__).parents[2]
EACH = 100
"""Documents of a seed."""
SECONDS = 20
"""No document takes longer."""

JSON_OF_A_PAGE = re.compile(r"```json\n(.*?)```", re.DOTALL)
SOURCES: dict[str, dict[str, Any]] = {
    "local": {"path": "."},
    "oss": {
        "endpoint": "http://h",
        "bucket": "b",
        "accessKeyId": "a",
        "accessKeySecret": "key-of-oss",
    },
    "s3": {
        "endpoint": "http://h",
        "bucket": "b",
        "accessKeyId": "a",
        "accessKeySecret": "key-of-s3",
    },
    "gcs": {"bucket": "b", "anonymous": True},
    "hdfs": {"endpoint": "http://h:9870", "username": "u"},
    "milvus": {"endpoint": "http://127.0.0.1:1", "token": "${A:-root:x}", "database": "d"},
    "elasticsearch": {"endpoint": "http://127.0.0.1:1", "username": "u", "password": "p"},
    "opensearch": {"endpoint": "http://127.0.0.1:1", "username": "u", "password": "p"},
    "mysql": {"host": "h", "database": "d", "username": "u", "password": "p"},
    "postgresql": {
        "host": "h",
        "port": "5432",
        "database": "d",
        "username": "u",
        "password": "p",
        "tls": "off",
    },
    "hologres": {"host": "h", "database": "d", "username": "u", "password": "p"},
    "paimon": {"options": {"warehouse": "w", "fs.s3.secret-key": "key-of-paimon"}},
    "odps": {
        "endpoint": "http://h/api",
        "project": "p",
        "accessId": "a",
        "accessKey": "key-of-odps",
    },
}


def steps() -> list[dict[str, Any]]:
    """The steps of all templates, examples and pages, and of the tests; each with its source."""
    documents: list[Any] = [main_job()]
    documents += [
        json.loads(path.read_text()) for path in sorted((ROOT / "examples").glob("*.json"))
    ]
    documents += [render_template(n, parameters=parameters(n))[0] for n in sorted(NEEDED)]
    for page in sorted((ROOT / "docs").glob("*.md")):
        for text in JSON_OF_A_PAGE.findall(page.read_text()):
            with suppress(ValueError):
                documents.append(json.loads(text))
    found = []
    while documents:
        one = documents.pop(0)
        if isinstance(one, dict) and "stepType" in one and isinstance(one.get("parameter"), dict):
            found.append(one)
        elif isinstance(one, dict | list):
            documents += one.values() if isinstance(one, dict) else one
    return found


def a_job(rng: random.Random, pool: list[dict[str, Any]]) -> dict[str, Any]:
    """A job of any steps, in the order of a flow, whose data sources exist."""
    readers, writers, others = (
        [step for step in pool if (step.get("category") or "map") in wanted]
        for wanted in (("reader",), ("writer",), ("map", "flatmap", "map/flatmap"))
    )
    chosen = [rng.choice(readers), *rng.sample(others, rng.randrange(3)), rng.choice(writers)]
    job = {"type": "job", "version": "2.0", "name": "any", "steps": copy.deepcopy(chosen)}
    for number, step in enumerate(job["steps"]):
        step["name"] = f"step {number}"
        kind = step["stepType"]
        source = rng.choice(("local", "s3", "hdfs")) if kind == "file" else kind
        if source in SOURCES and "datasource" in step["parameter"]:
            step["parameter"]["datasource"] = source
    if rng.random() < 0.7:
        job["setting"] = {
            "errorLimit": {"record": "0", "percentage": ""},
            "budget": {"requests": 9},
            "speed": {"concurrent": "4", "throttle": True, "mbps": "1"},
            "vectorCache": {"uri": "sqlite:///c.db"},
            "trustedEndpoints": ["http.*"],
        }
    return job


@contextmanager
def _limited(what: str) -> Generator[None]:
    def late(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {SECONDS} s: {what}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wrong(capture: pytest.CaptureFixture[str], what: str, *arguments: str) -> list[str]:
    """What is wrong with the end of a command line, which is to be taken, or refused in words."""
    with _limited(what), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capture.readouterr()
    status, lines = ended.value.code, captured.err.splitlines()
    claims = {
        f"status {status}": status in (0, 2),
        "a traceback": "Traceback" not in captured.err,
        "a control character": "\x1b" not in captured.err + captured.out,
        "no words": status == 0 or bool(lines),
        "a long line": all(len(line) < 6000 for line in lines),
    }
    return [
        f"{what}: {fault}: {captured.err[-1500:]}" for fault, true in claims.items() if not true
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", some(range(200), 3))
def test_any_job_and_data_source_is_told_in_words(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `check`, with a status of 0 or 2; one in four is set by `--set` beside it."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(f"jobs {seed}")
    pool = steps()
    sources = {name: {"type": name, **source} for name, source in SOURCES.items()}
    faults: list[str] = []
    for number in range(EACH):
        what = f"job {number} of seed {seed}"
        job, suffix = written(rng, a_job(rng, pool))
        (tmp_path / f"job{suffix}").write_bytes(job)
        source, source_suffix = written(rng, sources, 0.3)
        (tmp_path / f"ds{source_suffix}").write_bytes(source)
        more: list[str] = []
        if rng.random() < 0.25:
            path = rng.choice(("steps.0.parameter", "steps.²", "name", "setting.speed", "steps.1"))
            more += ["--set", f"{path}={_text(rng.choice(STRANGE))}"]
        faults += wrong(capsys, what, "check", f"job{suffix}", "-d", f"ds{source_suffix}", *more)
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", some(range(20), 1))
def test_any_template_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """By `check`, `show` and `list`."""
    rng = random.Random(f"templates {seed}")
    templates = [yaml.safe_load(path.read_text()) for path in sorted(OWN_FOLDER.glob("*.yaml"))]
    every = {name: value for needed in NEEDED.values() for name, value in needed.items()}
    more = [part for name, value in every.items() for part in ("-p", f"{name}={value}")]
    faults: list[str] = []
    for number in range(EACH):
        what = f"template {number} of seed {seed}"
        content, suffix = written(rng, rng.choice(templates))
        path = tmp_path / f"mine{suffix}"
        path.write_bytes(content)
        at = ("--template-dir", str(tmp_path))
        faults += wrong(capsys, what, "check", "template:mine", *at, *more)
        faults += wrong(
            capsys, what, "templates", "show", "mine", *at, *(["--json"] if number % 2 else [])
        )
        faults += wrong(capsys, what, "templates", "list", *at)
        faults += wrong(capsys, what, "templates", "render", "mine", *at, *more)
        path.unlink()
    assert faults == []


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).replace("\x00", "")
