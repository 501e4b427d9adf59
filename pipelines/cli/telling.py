"""Who is told how a run goes: a terminal, the log, a file of events.

Apart from `vecferry.pipelines.cli.commands` because several commands run rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError, VecferryError
from vecferry.pipelines.cli.output import (
    are_log_lines,
    require_writable,
    write_line,
)

if TYPE_CHECKING:
    from vecferry.pipelines.run.events import EventLines, Narrator, Teller
    from vecferry.pipelines.run.report import Report


@dataclass(frozen=True)
class TellOptions:
    """What the command line says of telling.

    Attributes:
      events: the file of events; ``-`` is standard output; None without events.
      metrics: where metrics are told, see `metrics_teller`; None without metrics.
    """

    events: str | None = None
    metrics: str | None = None

    def refuse(self, *, as_json: bool) -> None:
        """Raises UsageError or JobError for what can't be done, before anything runs."""
        if self.events == "-" and as_json:
            raise click.UsageError(
                "--events -: the last line of the events is the report: leave --json out, or "
                "write the events into a file"
            )
        if self.events not in (None, "-"):
            require_writable("--events", self.events)


SILENT = TellOptions()
"""Nothing but the terminal or the log is told."""


@dataclass
class Telling:
    """Those who are told of one run. `narrator` is its `OnProgress`."""

    narrator: Narrator
    lines: EventLines | None = None
    tellers: list[Teller] = field(default_factory=list)

    def end(self, report: Report) -> None:
        """Writes the last line of the events, the report."""
        self._last("report", "report", report.model_dump())

    def fail(self, error: VecferryError) -> None:
        """Writes the last line of the events of a run that has no report."""
        problems = error.problems if isinstance(error, JobError) else [str(error)]
        self._last("error", "errors", problems)

    def _last(self, kind: str, name: str, value: Any) -> None:
        from vecferry.pipelines.run.events import iso

        if self.lines is not None:
            self.lines.put({"event": kind, "time": iso(time.time()), name: value})


@contextmanager
def told(options: TellOptions, course: Teller | None = None) -> Iterator[Telling]:
    """Tells of the run within, `course` as well; after it, the report may be told."""
    from rich.console import Console

    from vecferry.pipelines.run.events import EventLines, Narrator
    from vecferry.pipelines.run.progress import ProgressLine, ProgressLog, WaitLog

    with ExitStack() as opened:
        console = Console(stderr=True)
        shown = console.is_terminal and not are_log_lines()
        tellers: list[Teller] = [ProgressLine(console) if shown else ProgressLog(), WaitLog()]
        lines = None
        if options.events is not None:
            to_stdout = options.events == "-"
            write = write_line if to_stdout else _writer(options.events, opened)
            lines = EventLines(options.events, write)
            tellers.append(lines)
        if options.metrics is not None:
            from vecferry.pipelines.run.metrics import metrics_teller

            tellers.append(metrics_teller(options.metrics))
        if course is not None:
            tellers.append(course)
        telling = Telling(Narrator(tellers), lines, tellers)
        try:
            yield telling
        except VecferryError as e:
            telling.fail(e)
            raise


def _writer(path: str, opened: ExitStack) -> Callable[[str], None]:
    """Writes lines into a file, where each is at once; raises OSError."""
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 — closed with `opened`
    except OSError as e:
        raise JobError(f"--events {path}: can't be written: {e}; name another file") from e

    def close() -> None:
        with suppress(OSError):  # what could not be written was told of
            file.close()

    opened.callback(close)

    def write(line: str) -> None:
        file.write(line)
        file.flush()

    return write
