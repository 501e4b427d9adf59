"""Where a job's files are: beside the data sources, in the home folder, on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.pipelines.support import Bench, Outcome, rows
from vecferry.io.files.settings import FilesSettings
from vecferry.io.files.stores import stdin
from vecferry.io.files.transform import ReadFiles


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A folder with a job; its data sources name files beside them, and the user is elsewhere."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(3))
    bench.sources["Files"]["path"] = "in"
    bench.sources["Vectors"]["endpoint"] = "./vectors.db"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return bench


def read(bench: Bench, *arguments: str) -> tuple[int, str]:
    """How many rows the job's source has, and what is said."""
    outcome = bench.line("check", bench.save(), "--estimate", "--json", *arguments)
    assert outcome.status == 0, outcome.err
    return outcome.json["estimate"]["rows"], outcome.err


def with_sources(bench: Bench) -> tuple[str, str]:
    """The option that names the data sources."""
    return "-d", str(bench.folder / "sources.json")


def test_paths_of_data_sources_are_relative_to_their_file(bench: Bench) -> None:
    """Wherever the command is started."""
    assert read(bench, *with_sources(bench)) == (3, "")


def test_the_old_way_is_an_option_and_a_difference_is_told(bench: Bench) -> None:
    """A path that names other files than it once did gives a warning."""
    Path("in").mkdir()
    Path("in/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(5)))
    assert read(bench, *with_sources(bench), "--relative-to", "cwd") == (5, "")
    count, said = read(bench, *with_sources(bench))
    assert count == 3
    assert f"warning: data source 'Files': in is {bench.folder}/in, beside the data sources" in said
    assert "give --relative-to cwd if that is meant" in said


def test_a_file_that_is_only_in_the_current_folder_is_named(bench: Bench) -> None:
    """Its job fails otherwise without saying why."""
    (bench.folder / "in").rename("in")
    outcome = bench.line("check", bench.save(), *with_sources(bench))
    assert outcome.status == 0
    assert "it exists in the current folder: move it, or give --relative-to cwd" in outcome.err


def test_data_sources_beside_the_job_are_found(bench: Bench) -> None:
    """Those in the current folder are found first, as ever, and the others are told of."""
    beside = bench.folder / "datasources.yaml"
    beside.write_text(json.dumps(bench.sources))
    assert read(bench) == (3, "")
    here = {**bench.sources, "Files": {"type": "local", "path": "../in"}}
    Path("datasources.yaml").write_text(json.dumps(here))
    count, said = read(bench)
    assert count == 3
    assert f"and not those beside the job, {beside}" in said
    os.chdir(bench.folder)
    assert read(bench)[1] == ""


def test_where_none_is_found_all_places_are_named(bench: Bench) -> None:
    """So that the file can be put into one of them."""
    outcome = bench.line("check", bench.save())
    assert outcome.status == 2
    for place in ("./datasources.yaml", str(bench.folder / "datasources.yaml"), "config"):
        assert place in outcome.err


def test_a_tilde_is_the_home_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In data sources, in a step, and behind an equals sign, where shells leave it."""
    monkeypatch.setenv("HOME", str(bench.folder))
    bench.sources["Files"]["path"] = "~/in"
    bench.sources["Vectors"]["endpoint"] = "~/vectors.db"
    bench.step("Reader")["object"] = ["~/in/*.jsonl"]
    bench.save()
    outcome = bench.line(
        "run", "~/job.json", "--data-sources=~/sources.json", "--rejects=~/rejects",
        "--report=~/report.json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert {"report.json", "vectors.db"} <= set(os.listdir(bench.folder))
    assert not Path("~").exists()


def piped(bench: Bench, given: bytes | None, *arguments: str) -> Outcome:
    """A command line with something on its standard input; None is a terminal's like."""
    bench.step("Reader")["object"] = "-"
    program = "from vecferry.pipelines.cli import main; main()"
    line = [sys.executable, "-c", program, arguments[0], bench.save(), *with_sources(bench)]
    with open(os.devnull, "rb") as nothing:
        out = subprocess.run(
            [*line, *arguments[1:]],
            input=given,
            stdin=nothing if given is None else None,
            capture_output=True,
            env={**os.environ, "TMPDIR": str(bench.folder)},
        )
    return Outcome(out.returncode, out.stdout.decode(), out.stderr.decode())


@pytest.mark.slow
def test_a_minus_reads_rows_from_standard_input(bench: Bench) -> None:
    """All that reads a file reads them; a reject says where its row stood; nothing is left."""
    bench.job["setting"]["errorLimit"] = {"record": 1}
    given = b"".join(json.dumps(row).encode() + b"\n" for row in rows(40)) + b"not json\n"
    outcome = piped(bench, given, "run", "--json", "--rejects", str(bench.folder / "rejects"))
    assert outcome.status == 0, outcome.err
    report = outcome.json
    assert (report["rows_read"], report["rows_written"], report["rows_rejected"]) == (41, 40, 1)
    kept = b"".join(p.read_bytes() for p in Path(report["rejects"]).rglob("*.jsonl*"))
    assert f'"-:{given.index(b"not json")}"'.encode() in kept
    assert [name for name in os.listdir(bench.folder) if "stdin" in name] == []


def test_rows_are_read_from_standard_input_without_a_data_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the step itself, as a graph has it."""
    columns = [{"name": "id", "index": 0, "type": "string"}]
    settings = FilesSettings.model_validate(
        {"object": ["-"], "fileFormat": "csv", "column": columns}
    )
    (tmp_path / "given").write_text("a\nb\n")
    monkeypatch.setattr("vecferry.io.files.stores.stdin._spool", stdin._Spool())
    with (tmp_path / "given").open() as given, beam.Pipeline() as pipeline:
        monkeypatch.setattr("sys.__stdin__", given)
        rows_ = (pipeline | ReadFiles(settings=settings)).rows
        assert_that(rows_ | beam.Map(lambda row: row["id"]), equal_to(["a", "b"]))


@pytest.mark.slow
def test_a_check_does_not_wait_for_standard_input(bench: Bench) -> None:
    """Only what reads rows reads it; a device gives none."""
    assert piped(bench, None, "check").status == 0
    outcome = piped(bench, None, "preview")
    assert (outcome.status, "nothing is piped into it; pipe rows in" in outcome.err) == (2, True)


def test_standard_input_stands_alone_and_needs_no_data_source(bench: Bench) -> None:
    """Beside other paths it would be read by whichever part comes first."""
    del bench.step("Reader")["datasource"]
    bench.step("Reader")["object"] = ["-"]
    assert bench.call("check").status == 0
    bench.step("Reader")["object"] = ["-", "rows.jsonl"]
    outcome = bench.call("check")
    assert (outcome.status, "- is standard input and stands alone" in outcome.err) == (2, True)


def test_workers_elsewhere_have_another_standard_input(bench: Bench) -> None:
    """It is refused before anything runs."""
    bench.step("Reader")["object"] = ["-"]
    there = ("--job_endpoint=127.0.0.1:9", "--environment_type=DOCKER")
    outcome = bench.call("run", "--runner", "PortableRunner", *there)
    assert outcome.status == 2
    assert "step 'Reader': its path - is standard input, which other processes" in outcome.err
