"""Opens data sources for looking at them, and keeps each look within its time.

Stands apart from `vecferry.pipelines.cli.sources` because `init` and user interfaces look as well.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vecferry.browse import SECONDS, Browser
from vecferry.errors import JobError, VecferryError
from vecferry.kinds import ConnectionType
from vecferry.pipelines.job.datasources import DataSources
from vecferry.pipelines.registry import default, load
from vecferry.settings import Connection
from vecferry.threads import LOOK, raisable
from vecferry.waits import WAITS

T = TypeVar("T")


def browsed() -> dict[str, ConnectionType]:
    """The types of data sources that can be looked at, by name."""
    return {name: kind for name, kind in default().connections().items() if kind.browser}


def look(
    sources: DataSources, name: str, path: str, ask: Callable[[Browser], T], seconds: float
) -> T:
    """What the browser of a data source answers.

    Raises JobError where nobody can look at it, where the look fails, or takes longer.
    """
    where = f"{name}/{path}" if path else name

    def looked() -> T:
        connection, _ = sources.get(name, tuple(browsed()), "vecferry sources")
        with opened(connection, f"data source {name!r}") as browser:
            return ask(browser)

    try:
        return within(seconds, where, looked)
    except JobError as e:
        told = (p if p.startswith((where, "data source")) else f"{where}: {p}" for p in e.problems)
        raise JobError(list(told)) from e


@contextmanager
def opened(connection: Connection, where: str) -> Iterator[Browser]:
    """The browser of a connection; raises JobError where the client library is missing."""
    kind = browsed()[connection.type]
    assert kind.browser is not None
    if kind.client is not None:
        try:
            importlib.import_module(kind.client.module)
        except ImportError as e:
            raise JobError(
                f"{where}: the library {kind.client.module} is missing ({e}); install it with: "
                f"pip install '{kind.client.install}'"
            ) from e
    browser: Browser = load(kind.browser)(connection, SECONDS)
    try:
        yield browser
    finally:
        browser.close()


def within(seconds: float, where: str, look: Callable[[], T]) -> T:
    """What `look` gives; JobError if it fails, or if it has not ended after `seconds`.

    A look that is late is left behind in a daemon thread: not each client has a time limit.
    """
    outcome: list[Any] = []

    def work() -> None:
        WAITS.keep_quiet()
        try:
            outcome.append((look(), None))
        except BaseException as e:
            outcome.append((None, raisable(e)))

    thread = threading.Thread(target=work, name=LOOK, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise JobError(
            f"{where}: has not answered within {seconds:g} s; see whether it is reachable, or look "
            "at a smaller part of it"
        )
    result, error = outcome[0]
    if isinstance(error, VecferryError) and not isinstance(error, JobError):
        raise JobError(f"{where}: {error}") from error
    if error is not None:
        raise error
    found: T = result
    return found
