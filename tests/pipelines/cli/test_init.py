"""``vecferry init``: a stranger's first job, from a file that nobody described."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from tests.io.files import documents
from tests.pipelines.support import Bench

TRAILS = Path(__file__).parents[3] / "examples" / "data" / "trails.csv"


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """An empty folder, in which the command line runs."""
    bench = Bench(tmp_path, capsys)
    monkeypatch.chdir(tmp_path)
    return bench


def _next(bench: Bench, *given: str) -> list[list[str]]:
    """The arguments of the commands that `init` says to run next."""
    outcome = bench.line("init", *given, "--yes", "--json")
    assert outcome.status == 0, outcome.err
    return [shlex.split(command)[1:] for command in outcome.json["next"]]


@pytest.mark.slow
def test_a_stranger_finds_a_row_of_a_csv_without_editing_a_file(bench: Bench) -> None:
    """init, run and query, as they are printed; only the text to search for is one's own."""
    Path("lines.csv").write_bytes(TRAILS.read_bytes())
    shown = bench.line("init", "lines.csv", "--yes")
    assert shown.out.startswith("wrote lines.yaml, datasources.yaml, .env.example\n")
    run, query = [shlex.split(line)[1:] for line in shown.out.splitlines()[-2:]]
    done = bench.line(*run)
    assert (done.status, "written 12" in done.out) == (0, True), done.err
    found = bench.line(*query[:-1], "stars at night, far from any lamp", "-k", "1", "--json")
    assert [hit["title"] for hit in found.json["hits"]] == ["Night sky plateau"]
    assert Path("lines.db").exists()


@pytest.mark.slow
def test_a_document_is_drafted_as_chunks_that_it_replaces(bench: Bench) -> None:
    """Its chunks are embedded; the reader is one of documents."""
    Path("tides.pdf").write_bytes(documents.pdf(["The tide is out. It comes back at noon."]))
    _next(bench, "tides.pdf")
    job = yaml.safe_load(Path("tides.yaml").read_text())
    read, split, embed, write = (step["parameter"] for step in job["steps"])
    assert (read["fileFormat"], read["object"]) == ("document", "tides.pdf")
    assert read["column"] == ["path", "title", "text"]
    assert (split["chunkSize"], split["parentColumns"]) == (1000, write["parentKey"])
    assert embed["embeddingColumns"]["sourceColumnNames"] == ["chunk"]
    keys = [column["name"] for column in write["column"] if column.get("primaryKey")]
    assert keys == ["chunk_id"]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["a.txt", "deep/a.md"])
def test_a_folder_of_documents_is_found_chunk_by_chunk(bench: Bench, first: str) -> None:
    """init, run and query as they are printed; a document that became shorter leaves no chunk."""
    folder = Path("notes")
    (folder / first).parent.mkdir(parents=True)
    (folder / first).write_text("The oystercatcher waits on the shore.\n")
    (folder / "deep").mkdir(exist_ok=True)
    long = "\n\n".join(f"# Part {n}\n\n{'The ebb is low. ' * 50}" for n in range(3))
    (folder / "deep" / "tides.md").write_text(long)
    run, query = _next(bench, "notes")
    assert "written 4" in bench.line(*run).out
    found = bench.line(*query[:-1], "a bird by the sea", "-k", "1", "--json").json["hits"]
    assert [hit["chunk_id"] for hit in found] == [f"{first}#0"]
    (folder / "deep" / "tides.md").write_text("# Tides\n\nThe ebb is low.\n")
    assert "written 2" in bench.line(*run).out
    found = bench.line(*query[:-1], "anything", "-k", "9", "--json").json["hits"]
    assert sorted(hit["path"] for hit in found) == sorted([first, "deep/tides.md"])


def test_a_key_for_documents_is_refused(bench: Bench) -> None:
    """Chunks have ids of their own."""
    Path("tides.md").write_text("# Tides\n")
    outcome = bench.line("init", "tides.md", "--yes", "--key", "title")
    assert (outcome.status, "chunk_id is the key" in outcome.err) == (2, True)


TEXTS = [f"This is the text of number {i}, told at some length." for i in range(20)]
ROWS = [{"page id": i, "名称": f"n{i}", "body": text} for i, text in enumerate(TEXTS)]


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    lines = [rows[0], *(row.values() for row in rows)]
    return "".join(delimiter.join(str(v) for v in line) + "\n" for line in lines)


def _write(name: str) -> None:
    """One of the files of the table below."""
    plain = [{"id": i, "score": i / 2 if i else "", "body": t} for i, t in enumerate(TEXTS)]
    texts = {
        "odd names.csv": _csv(ROWS).replace(", told", " told"),
        "empties.tsv": _csv(plain, "\t"),
        "objects.jsonl": "".join(json.dumps({**row, "tags": ["a"]}) + "\n" for row in ROWS),
        "array.json": json.dumps(ROWS),
        "no header.csv": "".join(f"{i};{t}\n" for i, t in enumerate(TEXTS)),
        "only text.txt": "\n".join(TEXTS),
    }
    if name in texts:
        Path(name).write_text(texts[name], encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("odd names.csv", "page id"),
        ("empties.tsv", "id"),
        ("objects.jsonl", "page id"),
        ("array.json", "page id"),
        ("table.parquet", "page id"),
        ("no header.csv", "column_0"),
        ("only text.txt", None),
    ],
)
def test_each_format_gives_a_job_that_writes_all_rows(
    bench: Bench, name: str, key: str | None
) -> None:
    """The rows are read by the types that were guessed, and none is rejected."""
    _write(name)
    outcome = bench.line("init", name, "--yes", "--json")
    assert (outcome.status, outcome.json["key"]) == (0, key), outcome.err
    run = shlex.split(outcome.json["next"][0])[1:]
    report = bench.line(*run, "--json").json
    assert (report["state"], report["rows_written"]) == ("DONE", 20), report


def test_nothing_is_overwritten(bench: Bench) -> None:
    """A second job in a folder gets files of its own, and the same job a refusal."""
    for name in ("one.csv", "two.csv"):
        Path(name).write_bytes(TRAILS.read_bytes())
    _next(bench, "one.csv")
    before = {p.name: p.read_text() for p in Path().glob("*.yaml")}
    run, _ = _next(bench, "two.csv")
    assert run == ["run", "two.yaml", "-d", "two.datasources.yaml"]
    again = bench.line("init", "one.csv", "--yes")
    assert again.status == 2
    assert "one.yaml would be lost: choose another --name" in again.err
    assert {name: Path(name).read_text() for name in before} == before
    assert bench.line("check", *run[1:]).status == 0


def test_a_data_source_of_ones_own_is_read_and_its_secrets_stay_placeholders(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATASOURCE/PATH takes the entry as it is written."""
    monkeypatch.setenv("FOLDER", str(TRAILS.parent))
    Path("datasources.yaml").write_text('Trails: {type: local, path: "${FOLDER}"}\n')
    run, _ = _next(bench, "Trails/trails.csv", "--name", "hikes")
    assert run == ["run", "hikes.yaml", "-d", "hikes.datasources.yaml"]
    written = yaml.safe_load(Path("hikes.datasources.yaml").read_text())
    assert written["Trails"] == {"type": "local", "path": "${FOLDER}"}
    assert bench.line("check", *run[1:]).status == 0


def test_variables_of_a_file_and_secrets_of_files_are_taken_as_by_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By init and by sources; init writes paths that hold where its job is, and no secret."""
    monkeypatch.setenv("SHELF", "unset by the test")
    monkeypatch.delenv("SHELF")
    shop = Path("shop")
    (shop / "in").mkdir(parents=True)
    (shop / "in" / "trails.csv").write_bytes(TRAILS.read_bytes())
    (shop / "where").write_text(f"{(shop / 'in').resolve()}\n")
    (shop / "ds.yaml").write_text(
        "Trails: {type: local, path: in}\n"
        'Named: {type: local, path: "${file:where}"}\n'
        'Shelf: {type: local, path: "${SHELF}"}\n'
    )
    Path("job.env").write_text(f"SHELF={(shop / 'in').resolve()}\n")
    given = ("-d", "shop/ds.yaml", "--env-file", "job.env")
    for name in ("Trails", "Named", "Shelf"):
        shown = bench.line("sources", "browse", name, *given)
        assert (shown.status, "trails.csv" in shown.out) == (0, True), shown.err
        run, _ = _next(bench, f"{name}/trails.csv", "--name", name.lower(), *given)
        assert run[-2:] == ["--env-file", "job.env"]
        monkeypatch.delenv("SHELF")
        assert bench.line("check", *run[1:], "--connect").status == 0, run
    written = yaml.safe_load(Path("trails.yaml").with_name("datasources.yaml").read_text())
    assert written["Trails"] == {"type": "local", "path": str((shop / "in").resolve())}
    named = yaml.safe_load(Path("named.datasources.yaml").read_text())
    assert named["Named"]["path"] == f"${{file:{(shop / 'where').resolve()}}}"


@pytest.mark.parametrize("noise", ["\0\1\2\xff" * 500, "\x89PNG\r\n\x1a\n", "", "\n\n", "{"])
def test_noise_is_refused_in_words(bench: Bench, noise: str) -> None:
    """A file that holds no rows: nothing is written, and it is said what is wrong."""
    Path("noise.dat").write_bytes(noise.encode("latin-1"))
    before = sorted(os.listdir())
    outcome = bench.line("init", "noise.dat", "--yes")
    assert outcome.status == 2, outcome.out
    assert re.match(r"error: (\S+/)?noise.dat", outcome.err), outcome.err
    assert sorted(os.listdir()) == before


def test_a_provider_with_a_key_is_written_with_its_variable(bench: Bench) -> None:
    """The key itself is in no file."""
    Path("lines.csv").write_bytes(TRAILS.read_bytes())
    _next(bench, "lines.csv", "--provider", "openai", "--target", "http://127.0.0.1:19530")
    assert "OPENAI_API_KEY=" in Path(".env.example").read_text()
    job = yaml.safe_load(Path("lines.yaml").read_text())
    assert job["steps"][1]["parameter"]["apiKey"] == "${OPENAI_API_KEY}"
    assert "http://127.0.0.1:19530" in Path("datasources.yaml").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["lins.csv", "--yes"], "neither a file nor a data source.*did you mean 'lines.csv'"),
        (["--yes"], "name the FILE"),
        (["lines.csv"], "not a terminal.*add --yes"),
        (["lines.csv", "--yes", "--key", "titel"], "--key: .*did you mean 'title'"),
        (["lines.csv", "--yes", "--text", "abut"], "--text: .*did you mean 'about'"),
        (["numbers.csv", "--yes"], "name one with --text"),
        (["empty.csv", "--yes"], "is empty"),
    ],
)
def test_what_can_not_be_drafted_is_refused(bench: Bench, given: list[str], words: str) -> None:
    """Nothing is written then."""
    Path("lines.csv").write_bytes(TRAILS.read_bytes())
    Path("numbers.csv").write_text("id,n\n1,2\n3,4\n")
    Path("empty.csv").touch()
    before = sorted(os.listdir())
    outcome = bench.line("init", *given)
    assert outcome.status == 2
    assert re.search(words, outcome.err), outcome.err
    assert sorted(os.listdir()) == before
