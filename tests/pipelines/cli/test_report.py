"""Reports as pages, and two of them compared."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from tests.pipelines.support import Bench
from vecferry.pipelines.cli.report import numbers_of, read_report
from vecferry.pipelines.run.events import Event
from vecferry.pipelines.run.page import MOST_POINTS, Course, page
from vecferry.pipelines.run.report import EmbedCounts, RejectedBy, Report


def report(rows: int) -> Report:
    """The report of a run of so many rows."""
    return Report(
        job="a <b>job</b>", run="r", state="DONE", rows_read=rows, rows_written=rows - 1,
        rows_deleted=0, rows_rejected=1, rows_dropped=0, rows_stale=0, rows_added=0,
        counts="committed", rejects="rejects/x", embed=EmbedCounts(requests=rows // 10),
        rejected_by=[RejectedBy(step="Embed", reason="refused", rows=1)], seconds=2.5, error=None,
        phases={"running": 2.0, "indexing": 0.5},
    )  # fmt: skip


def course(seconds: int) -> Course:
    """A run of so many seconds, of ten rows each."""
    made = Course()
    for second in range(1, seconds + 1):
        made.take(
            Event(
                kind="progress", at=0.0, phase="running", stopping=False, seconds=float(second),
                counts={"rows-read": 10 * second}, rejects={}, latency=Counter({second: 1}),
            )
        )  # fmt: skip
    return made


def test_a_page_is_whole_and_loads_nothing() -> None:
    """Its drawings are well formed, and what a job is called is text."""
    text = page(report(500), course(20))
    drawings = [part.partition("</svg>")[0] for part in text.split("<svg")[1:]]
    for drawing in drawings:
        ET.fromstring(f"<svg{drawing}</svg>")
    for name in ("rows read a second", "95 % are faster", "rejects by step", "seconds by phase"):
        assert name in text
    assert "<b>job" not in text.partition("<script")[0]
    assert not any(word in text for word in ("src=", "href=", "http://", "https://"))


def test_a_long_run_has_no_more_points_than_a_page_can_show() -> None:
    """Its rates are the same."""
    made = course(20 * MOST_POINTS)
    assert len(made.seconds) <= MOST_POINTS
    assert made.rate("rows-read") == pytest.approx([10.0] * len(made.seconds))


def test_reports_of_all_kinds_are_read(tmp_path: Path) -> None:
    """JSON, a page, and the last line of events."""
    whole = report(500).model_dump()
    (tmp_path / "r.json").write_text(json.dumps(whole, indent=2))
    (tmp_path / "r.html").write_text(page(report(500), course(3)))
    lines = [{"event": "progress"}, {"event": "report", "report": whole}]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    for name in ("r.json", "r.html", "e.jsonl"):
        assert numbers_of(read_report(str(tmp_path / name))) == numbers_of(whole)


def test_two_reports_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers that differ, and by how much; nothing else."""
    bench = Bench(tmp_path, capsys)
    for name, rows in (("a.json", 500), ("b.json", 750)):
        (tmp_path / name).write_text(report(rows).model_dump_json())
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    told = [line.split() for line in bench.line("report", "compare", a, b).out.splitlines()]
    assert told[1:] == [
        ["rows_read", "500", "750", "+50.0", "%"],
        ["rows_written", "499", "749", "+50.1", "%"],
        ["embed.requests", "50", "75", "+50.0", "%"],
    ]
    found = bench.line("report", "compare", a, b, "--json").json["differences"]
    assert found[0] == {"name": "rows_read", "a": 500, "b": 750}
    assert "the same numbers" in bench.line("report", "compare", a, a).out


NO_REPORTS = ["", "{}", "[1]", "no JSON\n", '{"event": "error"}\n', "[" * 5000 + "]" * 5000]


@pytest.mark.parametrize("text", NO_REPORTS, ids=lambda text: repr(text[:9]))
def test_what_is_not_a_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """In words, with status 2."""
    path = tmp_path / "file"
    path.write_text(text)
    outcome = Bench(tmp_path, capsys).line("report", "compare", str(path), str(path))
    assert outcome.status == 2
    assert "is not the report of a run" in outcome.err
