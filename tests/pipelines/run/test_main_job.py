"""Whole runs of a job: from lines in a file to a collection, with bad rows among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.pipelines.support import Bench, counts_add_up, interrupt, rejects_of, rows
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer, every
from vecferry.steps import TokenBucket


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder to run in."""
    return Bench(tmp_path, capsys)


def _use_endpoint(bench: Bench, server: EndpointServer, key: str = "sk-test") -> None:
    bench.step("Embed").update(
        modelProvider="openai", modelName="any", endpoint=server.url, apiKey=key,
        dimension=64,
    )  # fmt: skip


@pytest.mark.slow
def test_rows_of_a_file_are_found_by_their_text(bench: Bench) -> None:
    """What was written answers a query with the nearest text first."""
    bench.write_lines(
        [
            {"id": "a", "text": "a bicycle with a broken wheel"},
            {"id": "b", "text": "how to bake bread with sourdough"},
            {"id": "c", "text": "the election of a new parliament"},
        ]
    )
    report = bench.run()
    assert (report["state"], report["rows_written"], report["rejects"]) == ("DONE", 3, None)
    hits = bench.call("query", "recipe for dough in the oven", "-k", "2", "--json").json["hits"]
    assert [hits[0]["id"], len(hits)] == ["b", 2]


@pytest.mark.slow
def test_one_bad_row_in_a_thousand_costs_only_itself(bench: Bench) -> None:
    """999 rows are written; whether the job fails is the errorLimit's to say."""
    lines = [orjson.dumps(row) for row in rows(1000)]
    lines[500] = b"{this is no JSON"
    bench.write_lines(lines)
    report = bench.run()
    assert (report["state"], report["rows_written"], report["rows_rejected"]) == ("FAILED", 999, 1)
    assert "errorLimit" in report["error"]
    bench.job["setting"]["errorLimit"] = {"record": "1"}
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 999)
    assert counts_add_up(report)
    assert len(bench.stored(["id"])) == 999


@pytest.mark.slow
def test_a_job_over_its_limit_does_not_read_to_the_end(bench: Bench) -> None:
    """It reads on to show more than its first bad row, 1,000 rows from it, and stops."""
    bench.write_lines(["no JSON"] * 5000)
    report = bench.run()
    assert report["state"] == "FAILED"
    assert report["rows_read"] == report["rows_rejected"] == 1000
    assert len(rejects_of(report)) == 1000


@pytest.mark.slow
def test_a_percentage_is_a_share_of_the_rows_read(bench: Bench) -> None:
    """Five bad rows in a hundred pass 0.05 and fail 0.04."""
    bench.write_lines([{"id": f"{i}", "text": "t"} if i % 20 else "no JSON" for i in range(100)])
    bench.job["setting"]["errorLimit"] = {"percentage": 0.05}
    assert bench.run()["state"] == "DONE"
    bench.job["setting"]["errorLimit"] = {"percentage": "0.04"}
    assert bench.run()["state"] == "FAILED"


@pytest.mark.slow
def test_each_kind_of_bad_row_is_rejected_with_its_reason_and_the_rest_is_written(
    bench: Bench,
) -> None:
    """Encoding, length of a line, JSON, missing text, too long for its VarChar, empty text."""
    bench.step("Reader")["maxLineBytes"] = 1000
    bench.step("Writer")["column"][1]["maxLength"] = "100"
    bench.job["setting"]["errorLimit"] = {}
    bench.write_lines(
        [
            {"id": "good1", "text": "fine"},
            b'{"id": "x", "text": "\xff\xfe"}',
            '{"id": "long", "text": "' + "x" * 5000 + '"}',
            "not JSON at all",
            {"id": "textless"},
            {"id": "empty", "text": ""},
            {"id": "wide", "text": "é" * 60},
            {"id": "good2", "text": "fine, too"},
        ]
    )
    report = bench.run()
    assert (report["state"], report["rows_written"], report["rows_rejected"]) == ("DONE", 2, 6)
    assert counts_add_up(report)
    by_reason = {(r["step"], r["reason"]): r["rows"] for r in report["rejected_by"]}
    assert by_reason["Reader", "line-too-long"] == by_reason["Reader", "invalid-encoding"] == 1
    assert by_reason["Extract", "invalid-json"] == 1
    lines = rejects_of(report)
    assert {line["run"] for line in lines} == {report["run"]}
    assert all(line["origin"] and line["message"] and line["reason"] for line in lines)
    assert [r["id"] for r in bench.stored(["id"])] == ["good1", "good2"]


@pytest.mark.slow
def test_a_run_all_of_whose_rows_are_rejected_fails_unless_that_is_expected(bench: Bench) -> None:
    """A job that cron runs must say so by its exit status, also without errorLimit."""
    bench.job["setting"]["errorLimit"] = {}
    bench.write_lines(["id,text", "1,fine", "2,fine, too", {"id": "3", "text": ""}])
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("FAILED", 0)
    shown = "every row was rejected (4 rows), most often by 'Extract' as invalid-json (3 rows)"
    assert report["error"].startswith(shown)
    assert report["errors"][0]["message"] == report["error"]
    bench.job["setting"]["expect"] = {"minWritten": "0"}
    report = bench.run()
    shown = "no row was written: 4 of the 4 that were read were rejected, most often by 'Extract'"
    assert (report["state"], report["notes"][0][:9]) == ("DONE", "WARNING: ")
    assert report["notes"][0].startswith(f"WARNING: {shown} as invalid-json (3 rows)")
    assert report["warnings"] == [report["notes"][0].removeprefix("WARNING: ")]
    bench.write_lines(["id,text", {"id": "4", "text": "fine"}])
    assert bench.run()["notes"] == []


@pytest.mark.slow
def test_a_replay_writes_the_rows_once_their_cause_is_mended(bench: Bench) -> None:
    """The rows go on from the step that refused them, and land beside the others."""
    bench.job["setting"]["errorLimit"] = {}
    bench.step("Writer")["column"][1]["maxLength"] = "20"
    long = {"id": "long", "text": "a text that is over the limit"}
    bench.write_lines([{"id": "a", "text": "short"}, long, "{broken"])
    report = bench.run()
    assert (report["rows_written"], report["rows_rejected"]) == (1, 2)
    (bench.folder / "vectors.db").exists()
    bench.step("Writer").update(collection="wider")
    bench.step("Writer")["column"][1]["maxLength"] = "200"
    again = bench.run("--replay", report["rejects"])
    assert (again["rows_read"], again["rows_written"], again["rows_rejected"]) == (2, 1, 1)
    assert again["embed"]["requests"] == 0  # the vector came along with the row
    assert [r["text"] for r in bench.stored(["id", "text"])] == [long["text"]]
    assert rejects_of(again)[0]["row"]["line"] == "{broken"
    limited = bench.run("--replay", report["rejects"], "--limit", "1")
    assert limited["rows_read"] == 1


@pytest.mark.slow
def test_the_rejects_of_another_job_are_refused_though_its_steps_have_the_same_names(
    bench: Bench,
) -> None:
    """Its rows would land in a target that was never meant for them."""
    bench.job["setting"]["errorLimit"] = {}
    bench.write_lines(["{broken", {"id": "a", "text": "fine"}])
    rejects = bench.run()["rejects"]
    bench.job["name"] = "other"
    outcome = bench.call("run", "--replay", rejects)
    assert outcome.status == 2
    assert "rejects of the job 'job', and this one is 'other'" in outcome.err
    assert bench.run("--replay", rejects, "--set", "name=job")["rows_rejected"] == 1
    moved = Path(rejects).rename(bench.folder / "kept")
    assert bench.run("--replay", str(moved))["rows_rejected"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "cut", [{"$cut": {"bytes": 2000000, "sha256": "0", "head": "x"}}, {"$secret": "see ***"}]
)
@pytest.mark.parametrize("step", ["Reader", "Writer"])
def test_a_value_that_was_cut_or_hidden_never_passes_for_a_row(
    bench: Bench, step: str, cut: dict[str, Any]
) -> None:
    """Neither in a replay nor in the replay of that replay; its origin says where it is whole."""
    bench.job["setting"]["errorLimit"] = {}
    bench.step("Reader").update(fileFormat="text")
    bench.write_lines([])
    line = {"run": "r", "step": step, "reason": "x", "message": "m", "origin": "rows.jsonl:7"}
    content = {"raw": cut} if step == "Reader" else {"row": {"id": "a", "text": cut}}
    folder = bench.folder / "old"
    folder.mkdir()
    (folder / "part-1.jsonl").write_bytes(orjson.dumps({**line, **content}) + b"\n")
    replayed = str(folder)
    for _ in range(2):
        report = bench.run("--replay", replayed)
        assert report["state"] == "FAILED", "all of its rows are refused again"
        assert (report["rows_read"], report["rows_rejected"], report["rows_written"]) == (1, 1, 0)
        assert [(r["reason"], r["origin"]) for r in rejects_of(report)] == [("cut", "rows.jsonl:7")]
        replayed = report["rejects"]


@pytest.mark.slow
def test_a_limit_reads_so_many_rows_and_no_more(bench: Bench) -> None:
    """``--limit`` is for trying a job on a few rows."""
    bench.write_lines(list(rows(100)))
    report = bench.run("--limit", "7")
    assert (report["rows_read"], report["rows_written"]) == (7, 7)


@pytest.mark.slow
def test_a_throttled_job_keeps_to_its_rate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 records a second, 5,000 rows take 5 s; both streams share one bucket."""
    rates = []

    class Noted(TokenBucket):
        def __init__(self, rate: float) -> None:
            super().__init__(rate)
            rates.append(rate)

    monkeypatch.setattr("vecferry.beam.TokenBucket", Noted)
    bench.job["setting"]["speed"] = {"throttle": True, "record": "1000", "concurrent": 2}
    bench.write_lines(list(rows(5000)))
    report = bench.run()
    assert (report["rows_written"], rates) == (5000, [1000.0])
    assert report["seconds"] >= 4.9


@pytest.mark.slow
def test_a_failing_endpoint_fails_the_job_and_rejects_no_row(bench: Bench) -> None:
    """A service that is down is not a bad row; what was written stays, a re-run completes it."""
    bench.write_lines(list(rows(40)))
    bench.step("Embed")["retryDeadlineSeconds"] = 1
    with EndpointServer(fault=every(1, "503")) as server:
        _use_endpoint(bench, server)
        report = bench.run()
    assert (report["state"], report["rows_rejected"], report["rows_written"]) == ("FAILED", 0, 0)
    assert "503" in report["error"]
    assert abs(report["embed"]["requests"] - server.number) <= 2  # one may be on its way
    with EndpointServer() as server:
        _use_endpoint(bench, server)
        assert bench.run()["rows_written"] == 40


@pytest.mark.slow
def test_a_second_run_with_a_vector_cache_sends_nothing(bench: Bench) -> None:
    """What was paid for once is kept from run to run, by its content."""
    bench.write_lines(list(rows(40)))
    bench.job["setting"]["vectorCache"] = {"uri": f"sqlite:///{bench.folder}/vectors.sqlite"}
    with EndpointServer() as server:
        _use_endpoint(bench, server)
        assert bench.run()["embed"]["requests"] == 4
        bench.write_lines([*rows(40), {"id": "new", "text": "a new text"}])
        report = bench.run()
        assert len(server.good) == 5
    assert (report["rows_written"], report["embed"]["inputs"]) == (41, 1)


@pytest.mark.slow
def test_no_output_of_a_failing_run_holds_the_key(bench: Bench) -> None:
    """Neither the report nor the rejects nor what is printed."""
    bench.write_lines([*rows(3), "sk-of-the-test"])
    with EndpointServer(key="another-key") as server:
        _use_endpoint(bench, server, "sk-of-the-test")
        outcome = bench.call("run", "--report", str(bench.folder / "report.json"))
    assert outcome.status == 1
    printed = outcome.out + outcome.err + (bench.folder / "report.json").read_text()
    parts = "".join(p.read_text() for p in (bench.folder / "rejects").rglob("*.jsonl"))
    assert "401" in printed
    assert "sk-of-the-test" not in printed + parts


@pytest.mark.slow
def test_a_second_job_on_one_lite_file_is_told_so_before_it_runs(bench: Bench) -> None:
    """Milvus Lite opens a file in one process only."""
    bench.write_lines(list(rows(2)))
    path = bench.folder / "vectors.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pymilvus import MilvusClient; "
         f"c = MilvusClient({str(path)!r}); print('open', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        outcome = bench.call("run")
    finally:
        holder.communicate(b"")
    assert outcome.status == 2
    assert "process" in outcome.err


def _start(bench: Bench, *arguments: str) -> subprocess.Popen[bytes]:
    path = bench.save()
    return subprocess.Popen(
        [sys.executable, "-m", "vecferry.pipelines.cli.app", "run", path, "--json",
         "--data-sources", str(bench.folder / "sources.json"),
         "--rejects", str(bench.folder / "rejects"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def _wait_for_requests(server: EndpointServer, n: int) -> None:
    eventually(lambda: len(server.good) >= n)


@pytest.mark.slow
def test_the_first_interrupt_finishes_what_was_read(bench: Bench) -> None:
    """The state is CANCELLED, the status 130, and every row that was read is written."""
    bench.write_lines(list(rows(30_000)))
    bench.job["setting"]["speed"] = {"throttle": True, "record": 200, "concurrent": 2}
    with EndpointServer() as server:
        _use_endpoint(bench, server)
        process = _start(bench)
        _wait_for_requests(server, 5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    report = orjson.loads(out)
    assert report["state"] == "CANCELLED"
    assert 0 < report["rows_read"] < 30_000
    assert counts_add_up(report)
    assert len(bench.stored(["id"])) == report["rows_written"] == report["rows_read"]


@pytest.mark.slow
def test_the_second_interrupt_aborts(bench: Bench) -> None:
    """A run that hangs on its endpoint ends at once."""
    bench.write_lines(list(rows(3000)))
    with EndpointServer(latency=20.0) as server:
        _use_endpoint(bench, server)
        process = _start(bench)
        eventually(lambda: server.under_way > 0)
        interrupt(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)  # its rows would take an hour
    assert process.returncode == 130


@pytest.mark.slow
def test_a_column_is_left_out_behind_the_last_step_that_takes_it(bench: Bench) -> None:
    """The writer, and its rejects, get what the writer takes: a large column waits nowhere."""
    bench.job["setting"]["errorLimit"] = {"record": "1"}
    bench.write_lines([*rows(3), {"id": "long", "text": "x" * 2000}])
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 3)
    (reject,) = rejects_of(report)
    assert (reject["step"], sorted(reject["row"])) == ("Writer", ["id", "text", "vector"])
