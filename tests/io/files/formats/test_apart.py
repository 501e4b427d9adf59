"""Tables in a child process: the same rows, and whatever happens to the child costs one file."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import orc

from tests.contracts.files import FORMATS
from tests.effort import some, spread
from tests.io.files.formats import unruly
from tests.io.files.test_source import read, reader, rows, summary
from tests.native import LIBRARIES, content
from vecferry.errors import FatalError
from vecferry.io.files.formats import orc as orc_format
from vecferry.io.files.formats.apart import Children, Limits, children_of
from vecferry.io.files.formats.apart_tables import TABLES, ApartTable
from vecferry.io.files.formats.unpack import Damaged
from vecferry.io.files.source import FileSource
from vecferry.process import end_run, run_scope

UNRULY = f"{unruly.__name__}:Unruly"
ORC = f"{orc_format.__name__}:OrcTable"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every orc file is read in a child, whatever version pyarrow has; none is there yet."""
    monkeypatch.setattr(orc_format, "IS_SOUND", 1 << 30)
    children_of(run_scope("any"), TABLES).close()


@pytest.fixture
def children() -> Generator[Callable[..., Children]]:
    """Makes children of some limits, which end with the test."""
    made: list[Children] = []

    def make(**limits: int) -> Children:
        made.append(Children(TABLES, Limits(**limits)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def values(table: ApartTable, names: list[str] | None = None) -> list[Any]:
    """All rows of a table."""
    return [r for u in range(table.units) for b in table.batches(u, names) for r in b.to_pylist()]


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that its parent has not asked how."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def wait_until(true: Callable[[], bool]) -> None:
    """Waits a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_rows_origins_counts_and_splits_are_those_of_a_file_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With columns by name, by index and all; whole, and in as many splits as it has stripes."""
    (case,) = (case for case in FORMATS if case.name == "a.orc")
    (tmp_path / "a.orc").write_bytes(case.make())
    jobs: list[dict[str, Any]] = [
        {},
        {"column": case.parameters["column"]},
        {"column": [{"index": 0, "name": "x"}, {"name": "l", "from": "lineNumber"}]},
        {"column": [{"name": "c", "value": 1}]},
    ]
    for job in jobs:
        for size in (1 << 26, 40):
            found = []
            for version in (1, 1 << 30):
                monkeypatch.setattr(orc_format, "IS_SOUND", version)
                source = reader(tmp_path, size, fileFormat="orc", **job)
                found.append((summary(read(source)), source.counts.values, source.plan()))
            assert found[0] == found[1]
            assert len(found[0][0]) == 150


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
def test_a_read_that_is_left_off_and_begun_anew_gives_the_same_rows(tmp_path: Path) -> None:
    """As a worker does whose bundle is repeated; several files are read at a time."""
    for name in ("a.orc", "b.orc"):
        orc.write_table(pa.table({"a": range(5000)}), tmp_path / name)
    source = reader(tmp_path, fileFormat="orc")
    first, second = source.plan().splits
    one, other = source.read(first), source.read(second)
    assert [next(one)["a"], next(other)["a"]] == [0, 0]  # type: ignore[index]
    one.close()  # type: ignore[attr-defined]
    assert [i["a"] for i in source.read(first)] == list(range(5000))  # type: ignore[index]
    assert [i["a"] for i in other] == list(range(1, 5000))  # type: ignore[index]
    end_run(source.context.run)


@pytest.mark.slow
def test_one_child_reads_file_after_file_and_ends_with_the_run(
    tmp_path: Path, apart: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none is left behind."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **more: Any) -> Any:
        started.append(popen(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    for name in "abc":
        orc.write_table(pa.table({"a": [1]}), tmp_path / f"{name}.orc")
    source = reader(tmp_path, fileFormat="orc")
    source.check()
    assert rows(source) == [{"a": 1}] * 3
    (child,) = started
    assert child.poll() is None
    end_run(source.context.run)
    assert child.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "message", "when"),
    spread(
        [
            (what, message, when)
            for when in ("open", "")
            for what, message in (
                (
                    "crash",
                    r"is damaged: pyarrow .* crashed in reading it \(SIGSEGV\); write it anew",
                ),
                ("killed", "was killed, perhaps for lack of memory; give the job more memory"),
                ("exit", r"ended early \(exit status 3\); run the job again"),
                (
                    "memory",
                    "needs more than 2,048 MiB of memory at once; write it in smaller parts",
                ),
                ("loop", "came to no end in 2 s; write it anew"),
                ("reads", "came to no end in 2 s; write it anew"),
                ("sleep", "came to no end in 4 s; write it anew"),
            )
        ],
        7,
    ),
)
def test_what_ends_a_child_is_told_and_the_next_file_gets_a_new_one(
    children: Callable[..., Children], what: str, when: str, message: str
) -> None:
    """In opening a file and in reading it."""
    silence = 4 if what == "sleep" else 600
    some_children = children(memory=2 << 30, seconds=2, silence=silence)
    with pytest.raises(Damaged, match=message):
        values(ApartTable(some_children, UNRULY, io.BytesIO(f"{what} {when}".encode())))
    sound = ApartTable(some_children, UNRULY, io.BytesIO(b"nothing"))
    assert values(sound) == [{"a": None}] * 3
    sound.close()


@pytest.mark.slow
def test_errors_of_the_library_and_faults_of_ours_are_told_apart(
    children: Callable[..., Children],
) -> None:
    """An error of the library is the file's."""
    for what, error in (("unsound", pa.ArrowInvalid), ("fault", RuntimeError)):
        with pytest.raises(error, match=r"no such thing|TypeError: ours"):
            values(ApartTable(children(), UNRULY, io.BytesIO(what.encode())))


@pytest.mark.slow
def test_an_error_of_the_store_comes_through_as_it_is(
    tmp_path: Path, children: Callable[..., Children]
) -> None:
    """What the parent can't read is not a fault of the file."""

    class Away(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("the store is away")

    orc.write_table(pa.table({"a": [1]}), tmp_path / "a.orc")
    with pytest.raises(ConnectionResetError, match="the store is away"):
        ApartTable(children(), ORC, Away((tmp_path / "a.orc").read_bytes()))


@pytest.mark.slow
def test_rows_come_in_batches_of_about_a_megabyte(
    tmp_path: Path, children: Callable[..., Children]
) -> None:
    """However long some of them are."""
    texts = ["x" * (400_000 if i in (5000, 5001, 5002, 5003) else 400) for i in range(20_000)]
    orc.write_table(pa.table({"id": range(20_000), "t": texts}), tmp_path / "a.orc")
    with (tmp_path / "a.orc").open("rb") as raw:
        table = ApartTable(children(), ORC, raw)
        batches = [b for u in range(table.units) for b in table.batches(u, None)]
        table.close()
    assert pa.Table.from_batches(batches).to_pydict() == {"id": [*range(20_000)], "t": texts}
    assert max(b.nbytes for b in batches) < 2_200_000


PARENT = """
import io, sys
from tests.io.files.formats.test_apart import UNRULY, values
from vecferry.io.files.formats.apart import Children
from vecferry.io.files.formats.apart_tables import TABLES, ApartTable

table = ApartTable(Children(TABLES), UNRULY, io.BytesIO(sys.argv[1].encode()))
print(table._child.pid, flush=True)
values(table)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["nothing", "loop", "sleep"])
def test_no_child_outlives_a_parent_that_was_killed(what: str) -> None:
    """Whether it waits, works or hangs."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, what], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        assert os.getsid(pid) == pid, "Ctrl-C in a terminal would reach it"
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: gone(pid))


CRASHING = [21, 53, 54, 76, 98, 130, 141, 142, 163, 196, 207, 274, 328, 383, 450, 482]
"""With pyarrow 19.0.1 reading these contents here ends the process by SIGSEGV."""


def told(source: FileSource) -> str:
    """What a reader says of a file that can't be read; nothing if it can."""
    try:
        read(source)
    except FatalError as e:
        return str(e)
    return ""


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("seed", some(CRASHING, 3))
def test_a_file_that_crashes_a_library_is_named_and_others_are_read(
    tmp_path: Path, seed: int
) -> None:
    """Real files, each with one kind of damage."""
    library = LIBRARIES["orc"]
    (tmp_path / "bad.orc").write_bytes(content(library, seed, library.contents()))
    orc.write_table(pa.table({"a": [1]}), tmp_path / "good.orc")
    words = told(reader(tmp_path, fileFormat="orc", object="bad.orc"))
    assert not words or "bad.orc" in words
    if pa.__version__.startswith("19."):
        assert "bad.orc is damaged: pyarrow 19.0.1 crashed in reading it (SIGSEGV)" in words
    assert rows(reader(tmp_path, fileFormat="orc", object="good.orc")) == [{"a": 1}]


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("first", some(range(0, 5000, 20), 1))
def test_damaged_orc_files_end_in_rows_or_words(tmp_path: Path, first: int) -> None:
    """Twenty at a time."""
    library = LIBRARIES["orc"]
    made = library.contents()
    for seed in range(first, first + 20):
        (tmp_path / "a.orc").write_bytes(content(library, seed, made))
        words = told(reader(tmp_path, fileFormat="orc"))
        assert not words or "a.orc" in words
