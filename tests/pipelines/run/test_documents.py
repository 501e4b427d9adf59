"""Whole runs over documents: pages into a target, rejects and their replay, estimates, checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.io.files import documents as made
from tests.pipelines.support import Bench, counts_add_up, rejects_of
from vecferry.io.files.formats import document
from vecferry.io.files.parsers import CLIENTS
from vecferry.kinds import Client

PAGES = ["The tide is out.", "It comes back at noon.", "Then it goes again."]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A PDF, a text and a PDF that was cut off; each page is embedded and written."""
    bench = Bench(tmp_path, capsys)
    bench.job["steps"].pop(1)
    bench.step("Reader").update(object=["**"], fileFormat="document", perPage=True, column=["*"])
    bench.step("Writer")["column"] = [
        {"name": "path", "type": "VarChar", "maxLength": "200", "primaryKey": True},
        {"name": "page", "type": "Int64"},
        {"name": "text", "type": "VarChar", "maxLength": "1000"},
        {"name": "vector", "type": "FloatVector", "dimension": "64"},
    ]
    bench.job["setting"]["errorLimit"] = {}
    folder = bench.folder / "in" / "deep" / "down"
    folder.mkdir(parents=True)
    (folder / "a.pdf").write_bytes(made.pdf(PAGES[:1]))
    (folder / "b.txt").write_text(PAGES[1])
    (folder / "cut.pdf").write_bytes(made.pdf(PAGES)[:400])
    return bench


@pytest.mark.slow
def test_documents_are_written_and_a_replay_reads_a_mended_one_again(bench: Bench) -> None:
    """All pages of it, though the reject is one."""
    report = bench.run()
    assert counts_add_up(report)
    assert (report["rows_read"], report["rows_written"], report["rows_rejected"]) == (3, 2, 1)
    (reject,) = rejects_of(report)
    assert (reject["reason"], reject["origin"]) == ("damaged-document", "deep/down/cut.pdf")
    assert reject["message"].startswith("deep/down/cut.pdf is a PDF that was cut off")
    again = bench.run("--replay", report["rejects"])
    assert (again["rows_read"], again["rows_rejected"]) == (1, 1)
    (bench.folder / "in" / "deep" / "down" / "cut.pdf").write_bytes(made.pdf(PAGES))
    mended = bench.run("--replay", report["rejects"])
    assert counts_add_up(mended)
    assert (mended["rows_read"], mended["rows_written"]) == (3, 3)


@pytest.mark.slow
def test_an_estimate_and_a_preview_parse_a_sample(bench: Bench) -> None:
    """An estimate of all counts as the run does."""
    whole = bench.call("check", "--estimate", "--json").json["estimate"]
    assert (whole["rows"], whole["rejected"], whole["texts"]) == (3, 1, 2)
    some = bench.call("check", "--estimate", "--sample", "1", "--json").json["estimate"]
    assert some["sample"]["rows"] <= 3
    (first, *_) = bench.call("preview", "--rows", "1", "--json").json["steps"]
    (row,) = first["rows"]
    assert (row["path"], row["page"], row["text"]) == ("deep/down/a.pdf", 1, PAGES[0])


def test_a_missing_library_is_told_before_anything_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that installs it, and the exit status of a job that is not right."""
    missing = Client("no_such_library", CLIENTS[0].install)
    monkeypatch.setattr(document, "CLIENTS", (missing,))
    for command in (["check"], ["check", "--estimate"], ["run"], ["preview"]):
        outcome = bench.call(*command)
        assert outcome.status == 2
        assert (
            "step 'Reader' needs no_such_library: pip install 'vecferry[documents]'" in outcome.err
        )
