"""On a terminal: the line of progress, Ctrl-C as a key, and questions."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, environment, rows
from tests.transforms.embed.endpoints.server import EndpointServer, every

SECONDS = 300.0  # a process needs two minutes to come up where thirty others do
CTRL_C = b"\x03"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A process on a terminal of its own, and all that it has shown."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self._master = process, master
        self._bytes = b""

    @property
    def shown(self) -> str:
        """All that the terminal has got."""
        return self._bytes.decode(errors="replace")

    def press(self, keys: bytes) -> None:
        """Types; whoever is gone misses it."""
        with contextlib.suppress(OSError):
            os.write(self._master, keys)

    def look(self) -> None:
        """Takes in what was shown, for a short time."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if ready:
            with contextlib.suppress(OSError):  # the process has closed its end
                self._bytes += os.read(self._master, 1 << 16)

    def until(self, condition: Callable[[str], bool]) -> None:
        """Looks until what was shown meets a condition."""
        end = time.monotonic() + SECONDS
        while not condition(self.shown):
            assert time.monotonic() < end, self.shown
            assert self.process.poll() is None, self.shown
            self.look()

    def ended(self, again: bytes = b"") -> int:
        """Looks until the process has ended; types `again` now and then. Gives the exit status."""
        end, due = time.monotonic() + SECONDS, 0.0
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown
            if again and time.monotonic() >= due:
                self.press(again)
                due = time.monotonic() + 1.0
            self.look()
        for _ in range(5):
            self.look()
        return self.process.returncode


@contextmanager
def on_a_terminal(folder: Path, *words: str) -> Iterator[Terminal]:
    """A command line of Python whose keys and screen are a terminal's."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        env=environment(TERM="xterm"), start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job that embeds by a server and keeps rows in memory."""
    made = Bench(tmp_path, capsys)
    made.write_lines(list(rows(200)))
    made.job["steps"][-1] = memory_sink.step()
    return made


def job_at(bench: Bench, url: str) -> tuple[str, ...]:
    """The command that runs the job with its endpoint elsewhere."""
    bench.step("Embed").update(
        modelProvider="openai", modelName="text-embedding-v4", apiKey="sk-test", endpoint=url,
        retryDeadlineSeconds=600,
    )  # fmt: skip
    return (
        "-m", "tests.pipelines.run.ferry_memory", "run", bench.save(), "--no-preflight",
        "--concurrent-runs", "-d", str(bench.folder / "sources.json"),
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_ends_a_run_with_its_report(bench: Bench) -> None:
    """Until then one line shows how it stands; the cursor comes back."""
    with (
        EndpointServer(fault=every(1, "503")) as server,
        on_a_terminal(bench.folder, *job_at(bench, server.url)) as terminal,
    ):
        terminal.until(lambda shown: "running: " in shown and "answers 503" in shown)
        terminal.press(CTRL_C)
        status = terminal.ended()
    assert status == 130, terminal.shown
    assert HIDE in terminal.shown
    assert terminal.shown.rindex(SHOW) > terminal.shown.rindex(HIDE)
    told = terminal.shown[terminal.shown.rindex(SHOW) :]
    assert "CANCELLED" in told
    assert "rows that were read are unfinished" in " ".join(told.split())
    assert "Traceback" not in terminal.shown


@pytest.mark.slow
def test_ctrl_c_at_a_question_ends_init_and_writes_nothing(tmp_path: Path) -> None:
    """Python may miss a key that comes just before it waits, so the key is typed again."""
    (tmp_path / "trails.csv").write_text("id,title\n1,A long walk\n2,A short walk\n")
    words = ("-m", "vecferry.pipelines.main", "init", "trails.csv")
    with on_a_terminal(tmp_path, *words) as terminal:
        terminal.until(lambda shown: "Key column" in shown)
        status = terminal.ended(again=CTRL_C)
    assert status == 130, terminal.shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trails.csv"]


@pytest.mark.slow
def test_questions_of_init_are_answered_by_enter(tmp_path: Path) -> None:
    """Each proposes what seems right."""
    (tmp_path / "trails.csv").write_text("id,title\n1,A long walk\n2,A short walk\n")
    words = ("-m", "vecferry.pipelines.main", "init", "trails.csv")
    with on_a_terminal(tmp_path, *words) as terminal:
        for question in ("Key column", "Columns to embed", "Who makes the vectors"):
            terminal.until(lambda shown, q=question: q in shown)  # type: ignore[misc]
            terminal.press(b"\n")
        assert terminal.ended() == 0, terminal.shown
    assert "wrote trails.yaml" in terminal.shown
