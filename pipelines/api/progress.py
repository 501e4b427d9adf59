"""Where the progress of a run is shown: in a notebook, on a terminal, or by a function.

Stands apart from `vecferry.pipelines.api.job` because it knows IPython, and no job.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vecferry.pipelines.run.events import LOOKS, SECOND, Event, Narrator, Teller
from vecferry.pipelines.run.launch import OnProgress
from vecferry.pipelines.run.progress import ProgressLine, ProgressLog, WaitLog, progress_text


class LineTeller:
    """Hands each line of progress to a function."""

    every = SECOND / LOOKS

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def take(self, event: Event) -> None:
        """Hands on the line of an event."""
        self._tell(progress_text(event))

    def close(self) -> None:
        """Nothing: the last line stays."""


@contextmanager
def shown_by(progress: Callable[[str], None] | bool) -> Iterator[OnProgress]:
    """What a run is to call; `progress` takes the line, or says whether a line is shown.

    Servers that a run waits for are told in the log, unless `progress` is False.
    """
    if progress is False:
        yield lambda state, size: None
        return
    with Narrator([_teller(progress), WaitLog()]) as narrator:
        yield narrator


def _teller(progress: Callable[[str], None] | bool) -> Teller:
    if not isinstance(progress, bool):
        return LineTeller(progress)
    if in_notebook():
        return LineTeller(_cell())
    from rich.console import Console

    console = Console(stderr=True)
    return ProgressLine(console) if console.is_terminal else ProgressLog()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and shell.has_trait("kernel")


def _cell() -> Callable[[str], None]:
    """Renews one line of text under the cell."""
    display = importlib.import_module("IPython.display").display
    handle = display({"text/plain": "…"}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)
