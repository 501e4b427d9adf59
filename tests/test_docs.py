"""The pages do what they say: programs and commands run, jobs are valid, links lead somewhere.

A comment right above a block tells what it is for::

    <!-- not run: why -->   a program or commands that can't run here
    <!-- file: NAME -->     the block is saved under that name before what follows runs
    <!-- output -->         the lines are what the block above prints, … standing for anything
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.io.paimon.support import WHY as LAKE
from vecferry.pipelines import registry
from vecferry.pipelines.cli import app as cli
from vecferry.pipelines.job import model as job
from vecferry.pipelines.job.placeholders import fill
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import Kind
from vecferry.pipelines.run import report
from vecferry.rows import _DECODERS

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RUNNABLE = ("bash", "python")
MOST_NOT_RUN = 8
"""Blocks that are shown and not run: installing, containers, clusters, orchestrators."""

FENCE = re.compile(r"^```(?P<language>\w*)\s*$")
MARK = re.compile(r"^<!-- (?P<kind>not run|file|output)(: (?P<value>.+?))? -->$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")
DECIMALS = re.compile(r"\d+\\?\.\d+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comment right above it."""

    where: str
    language: str
    text: str
    mark: str = ""
    value: str = ""

    @property
    def runs(self) -> bool:
        """Whether the test of its page runs it."""
        return self.language in RUNNABLE and not self.mark


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        end = lines.index("```", number + 1)
        mark = MARK.match(lines[number - 1]) if number else None
        yield Block(
            where=f"{page.name}:{number + 1}",
            language=fence["language"],
            text="\n".join(lines[number + 1 : end]) + "\n",
            mark=mark["kind"] if mark else "",
            value=(mark["value"] or "") if mark else "",
        )
        number = end + 1


BLOCKS = {page: list(blocks_of(page)) for page in PAGES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


def page_name(page: Path) -> str:
    return page.name


def where(block: Block) -> str:
    return block.where


@pytest.fixture(scope="session")
def few_packages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The beginning of what run_local.sh reads."""
    path = tmp_path_factory.mktemp("packages") / "packages.jsonl"
    script = ROOT / "examples" / "describe_packages.py"
    subprocess.run([sys.executable, str(script), str(path)], check=True, capture_output=True)
    return "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:50])


@pytest.fixture
def folder(tmp_path: Path, few_packages: str) -> Path:
    """What a reader has before the page begins: examples/ and some data/."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "packages.jsonl").write_text(few_packages, encoding="utf-8")
    return tmp_path


def run(block: Block, folder: Path) -> str:
    """What a program or commands print; fails the test where they fail."""
    start = (
        [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = f"{ROOT / 'src'}{os.pathsep}{ROOT}"  # pages may start tests' servers
    env = {**os.environ, "PATH": path, "PYTHONPATH": ours, "COLUMNS": "100"}  # as off a terminal
    done = subprocess.run(
        [*start, block.text], cwd=folder, env=env, text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.where} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def pattern(line: str) -> str:
    """A line of a page as a regular expression: … is anything, and decimals are any decimals."""
    parts = [DECIMALS.sub(r"\\d+\\.\\d+", re.escape(part)) for part in line.strip().split("…")]
    return ".*".join(parts)


def missing_lines(expected: str, printed: str) -> list[str]:
    """The lines of `expected` that don't stand in `printed`, in the same order."""
    rest = iter(printed.splitlines())
    return [
        line
        for line in expected.splitlines()
        if line.strip(" …") and not any(re.search(pattern(line), p) for p in rest)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.runs for b in BLOCKS[p])], ids=page_name
)
def test_what_a_page_shows_runs(page: Path, folder: Path) -> None:
    """From top to bottom, in one folder; what it says is printed is printed."""
    if page.name == "lake.md":
        pytest.importorskip("pypaimon", reason=LAKE)
    printed = ""
    for block in BLOCKS[page]:
        if block.mark == "file":
            (folder / block.value).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.value).write_text(block.text, encoding="utf-8")
        elif block.mark == "output":
            assert missing_lines(block.text, printed) == [], f"{block.where}, of:\n{printed}"
        elif block.runs:
            printed = run(block, folder)


@pytest.mark.parametrize("block", [b for b in ALL if b.language in RUNNABLE], ids=where)
def test_code_is_code(block: Block, tmp_path: Path) -> None:
    """Also what is not run is free of errors that a parser finds."""
    if block.language == "python":
        compile(block.text, block.where, "exec")
    else:
        done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    """Showing without running is the exception."""
    marked = [b for b in ALL if b.mark == "not run"]
    benches = [b for b in marked if b.text.startswith(("python -m bench.", "python bench/"))]
    assert len(marked) - len(benches) <= MOST_NOT_RUN
    assert [b.where for b in benches if "performance.md" not in b.where] == []
    assert [b.where for b in marked if len(b.value) < 10] == []


def test_the_pages_have_what_these_tests_look_for() -> None:
    """A change of the pages' form would otherwise leave nothing to test."""
    counts = {language: sum(b.language == language for b in ALL) for language in RUNNABLE}
    assert min(counts.values()) >= 5
    assert sum(b.mark == "output" for b in ALL) >= 5
    assert sum(b.mark == "file" for b in ALL) >= 2


def documents() -> Iterator[tuple[Block, Any]]:
    """The blocks of JSON and YAML, with what they hold."""
    for block in ALL:
        if block.language == "json":
            yield block, json.loads(block.text)
        elif block.language == "yaml":
            yield block, yaml.safe_load(block.text)


def problems_of(model: str, values: dict[str, Any]) -> list[str]:
    """The errors and warnings of a step's parameters or a data source."""
    settings, problems = validate(registry.load(model), values, "")
    return problems if settings is None else unknown_keys(settings, "")


def parameters_in(document: Any) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """The kind of each step in a document, and what the step says."""
    for step in document.get("steps", [document]):
        if "stepType" in step:
            role = step.get("category", "")
            yield registry.kind_of(step["stepType"], role), step["parameter"]


@pytest.mark.parametrize(
    ("block", "document"), [pytest.param(b, d, id=b.where) for b, d in documents()]
)
def test_jobs_steps_and_data_sources_are_valid(block: Block, document: Any) -> None:
    """A job, a step and a data source on a page raise neither error nor warning."""
    names = set(re.findall(r"\$\{([\w.-]+)\}", block.text))
    document, problems = fill(document, dict.fromkeys(names, "1"))  # a port, too
    if "steps" in document:
        problems += job.parse_job(document, values={})[1]
    for kind, parameter in parameters_in(document):
        problems += problems_of(kind.settings, parameter)
    types = registry.connections()
    for value in document.values():
        if isinstance(value, dict) and value.get("type") in types:
            problems += problems_of(types[value["type"]].settings, value)
    assert problems == []


def anchors(page: Path) -> set[str]:
    """The names that links may add after #, as GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    headings = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """A relative link names a file that exists, and a heading of it after #."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    broken = []
    for target in (m["target"] for m in LINK.finditer(text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme() -> None:
    """Nobody finds a page that nothing leads to."""
    linked = {m["target"] for m in LINK.finditer((ROOT / "README.md").read_text())}
    assert {f"docs/{p.name}" for p in PAGES if p.parent != ROOT} - linked == set()


def test_every_decision_is_in_the_index() -> None:
    """Under its number and its own title."""
    folder = ROOT / "docs" / "decisions"
    titles = {}
    for path in sorted(folder.glob("[0-9]*.md")):
        number, title = path.read_text("utf-8").splitlines()[0].removeprefix("# ").split(". ", 1)
        assert path.name.startswith(f"{int(number):03}-")
        titles[path.name] = title
    index = re.findall(
        r"\| (\d+) \| \[(.*)\]\((.*)\) \|", (folder / "README.md").read_text("utf-8")
    )
    assert [(name, title) for _, title, name in index] == list(titles.items())


PATH = re.compile(r"`((?:io|transforms|pipelines|src|tests|docs|bench|examples|deploy)/[\w./*-]+)`")


def test_paths_on_the_pages_of_the_project_exist() -> None:
    """What CONTRIBUTING, the architecture and the decisions call a file or a folder is there."""
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"]
    pages += (ROOT / "docs" / "decisions").glob("*.md")
    named = {(page, path) for page in pages for path in PATH.findall(page.read_text("utf-8"))}
    lost = [f"{page.name}: {path}" for page, path in sorted(named) if not any(ROOT.glob(path))]
    assert len(named) >= 20
    assert lost == []


def backticked(page: str) -> set[str]:
    """The words in backticks on a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    codes = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.M))
    return {word for code in codes for word in re.findall(r"-{0,2}\$?\w[\w/-]*", code)}


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all under it, with what one types."""
    yield name, command
    for inner, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {inner}")


def test_every_command_and_option_is_documented() -> None:
    """The page of the command line knows all that ``--help`` knows."""
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    words, missing = backticked("command-line.md"), []
    for name, command in commands(cli.app, "vecferry"):
        options = [p for p in command.params if isinstance(p, click.Option)]
        missing += [f"{name} {o}" for p in options for o in p.opts if o not in words]
        missing += [] if name in text else [name]
    assert missing == []


def test_every_field_of_the_report_is_documented() -> None:
    """Also those inside `embed` and `rejected_by`."""
    models = (report.Report, report.EmbedCounts, report.RejectedBy)
    fields = {name for model in models for name in model.model_fields}
    assert fields - backticked("command-line.md") == set()


def test_every_key_of_a_job_is_documented() -> None:
    """What is passed over without a warning is also named."""
    models = (job.Job, job.Step, job.Setting, job.ErrorLimit, job.Speed, job.Hop, job.Order)
    keys = {f.alias or n for model in models for n, f in model.model_fields.items()}
    silent = {name for model in models for name in model.ignored}
    assert (keys | silent) - backticked("job-file.md") == set()


def test_every_step_type_and_type_of_data_source_is_documented() -> None:
    """The page of the job file lists them."""
    ours = [n for n, kinds in registry.kinds().items() if kinds[0].settings.startswith("vecferry.")]
    known = {*ours, *registry.connections()}
    assert known - backticked("job-file.md") == set()


def test_every_form_of_a_value_in_rejects_is_documented() -> None:
    """A program of one's own can read them all."""
    assert {*_DECODERS, "$dict", "$cut", "$secret"} - backticked("rejects.md") == set()
