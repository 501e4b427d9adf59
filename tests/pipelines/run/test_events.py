"""What a run tells while it goes on: events, lines of the log, phases."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows
from tests.transforms.embed.endpoints.server import EndpointServer, every
from vecferry.pipelines.run.events import Event, EventLines
from vecferry.pipelines.run.progress import LINE_SECONDS, ProgressLog
from vecferry.pipelines.run.report import latency_of

KEY = "sk-3f9aZq81LmX7pRt0"
PHASES = ["checking", "preparing", "running", "finishing", "indexing", "ended"]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of events."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def embed_at(bench: Bench, server: EndpointServer, **more: Any) -> None:
    """Lets the job embed at a server."""
    bench.step("Embed").update(
        {
            "modelProvider": "openai",
            "modelName": "text-embedding-v4",
            "apiKey": KEY,
            "endpoint": server.url,
        }
        | more
    )


def summed(events: list[dict[str, Any]], name: str) -> Counter[int]:
    """A histogram over all events."""
    total: Counter[int] = Counter()
    for event in events:
        total.update({int(ms): n for ms, n in event[name].items()})
    return total


@pytest.mark.slow
def test_all_events_of_a_run_add_up_to_its_report(bench: Bench) -> None:
    """Counters, rejects by step and reason, answers; each phase is told, and the report is last."""
    bench.write_lines([*rows(300), "not JSON", "{}"])
    bench.job["setting"]["errorLimit"] = {"record": "10"}
    path = bench.folder / "events.jsonl"
    with EndpointServer(key=KEY, fault=every(5, "503"), latency=0.02) as server:
        embed_at(bench, server)
        report = bench.run("--events", str(path))
    *events, last = lines(path)
    assert last["event"] == "report"
    assert last["report"] == {name: report[name] for name in last["report"]}
    assert [e["phase"] for e in events if e["event"] == "phase"] == PHASES
    counts, embed = events[-1]["counts"], report["embed"]
    for name in ("read", "written", "rejected"):
        assert counts[f"rows_{name}"] == report[f"rows_{name}"] > 0
    for name in ("requests", "inputs", "tokens", "retries"):
        assert counts[f"embed_{name}"] == embed[name] > 0
    assert events[-1]["rejects"] == report["rejected_by"]
    latency = summed(events, "latency_ms")
    assert latency.total() == embed["requests"] - embed["retries"]
    told = latency_of(latency)
    assert told is not None
    assert told.model_dump() == embed["latency_ms"]
    assert summed(events, "write_latency_ms").total() == counts["write_requests"]
    assert events[-1]["bytes_read"] == events[-1]["source"]["bytes"]
    assert sum(report["phases"].values()) == pytest.approx(report["seconds"], abs=0.2)
    assert list(report["phases"]) == PHASES[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "401", "503"])
def test_no_part_of_a_key_is_in_the_events(bench: Bench, fault: str | None) -> None:
    """Nor in what is said beside them, whatever the server answers."""
    bench.write_lines(list(rows(40)))
    path = bench.folder / "events.jsonl"
    with EndpointServer(key=KEY, fault=every(1, fault) if fault else None) as server:
        embed_at(bench, server, retryDeadlineSeconds=1)
        outcome = bench.call("run", "--events", str(path), "--log-format", "json")
    told = path.read_text() + outcome.out + outcome.err
    assert lines(path)[-1]["event"] == "report"
    assert not [i for i in range(len(KEY) - 7) if KEY[i : i + 8] in told]


@pytest.mark.slow
def test_events_on_standard_output_are_all_that_is_there(bench: Bench) -> None:
    """The summary for people goes to standard error."""
    bench.write_lines(list(rows(5)))
    outcome = bench.call("run", "--events", "-")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert (outcome.status, events[-1]["report"]["rows_written"]) == (0, 5)
    assert "read 5  written 5" in outcome.err


@pytest.mark.slow
def test_a_full_disk_never_fails_a_run(bench: Bench) -> None:
    """It is said once, and the events end."""
    bench.write_lines(list(rows(5)))
    outcome = bench.call("run", "--events", "/dev/full", "--json")
    assert (outcome.status, outcome.json["state"]) == (0, "DONE")
    assert outcome.err.count("can't be written, and ends here; the run goes on") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--events", "nowhere/events.jsonl"), "is not a folder that vecferry can write to"),
        (("--events", "-", "--json"), "the last line of the events is the report"),
    ],
)
def test_what_can_not_be_told_is_refused_before_anything_runs(
    bench: Bench, options: tuple[str, ...], words: str
) -> None:
    """With what to do."""
    bench.write_lines(list(rows(5)))
    outcome = bench.call("run", *options)
    assert outcome.status == 2
    assert words in outcome.err
    assert not (bench.folder / "vectors.db").exists()


def test_a_run_that_is_refused_says_so_as_its_last_event(bench: Bench) -> None:
    """It has no report."""
    bench.write_lines([])
    bench.sources["Files"]["path"] = str(bench.folder / "nothing")
    path = bench.folder / "events.jsonl"
    outcome = bench.call("run", "--events", str(path))
    last = lines(path)[-1]
    assert (outcome.status, last["event"]) == (2, "error")
    assert f"error: {last['errors'][0]}" in outcome.err


def test_log_lines_are_json_where_that_is_asked_for(bench: Bench) -> None:
    """Errors and warnings among them; each with its time."""
    outcome = bench.line("--log-format", "json", "check", "no-such-job.json")
    (line,) = [json.loads(line) for line in outcome.err.splitlines()]
    assert (outcome.status, line["level"]) == (2, "error")
    assert "no-such-job.json" in line["message"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:?\d\d$", line["time"])


def event(seconds: float, **more: Any) -> Event:
    """An event of a run under way."""
    fields = {"kind": "progress", "phase": "running", "stopping": False, "counts": {}}
    return Event(at=1000.0 + seconds, seconds=seconds, rejects={}, **{**fields, **more})


def test_off_a_terminal_a_line_says_how_the_run_stands_each_half_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A short run says nothing."""
    teller = ProgressLog()
    with caplog.at_level(logging.INFO, "vecferry.progress"):
        for second in range(100):
            teller.take(event(float(second), counts={"rows-read": 10 * second}))
    assert [line.split("  ")[0] for line in caplog.messages] == [
        f"running: {round(10 * n * LINE_SECONDS):,} read" for n in (1, 2, 3)
    ]


def test_what_can_not_be_written_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Such as a pipe whose reader has gone."""
    calls: list[str] = []

    def write(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    told = EventLines("events", write)
    told.take(event(1.0))
    told.take(event(2.0))
    assert len(calls) == 1
    assert len(caplog.messages) == 1
