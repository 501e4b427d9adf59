"""What holds for all tests: nothing may be skipped in continuous integration, and the order."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.effort import LONG, NOTED, note_of, revision, take_turns
from tests.lanes import add_options, arrange, begin, is_one_of_several, make_room, scheduler, turn
from tests.services.server import stop_all
from vecferry import redaction
from vecferry.pipelines import registry

pytest.register_assert_rewrite("tests.contracts", "tests.pipelines.support")  # both sides are told

# Where runs say that they run: jobs of the same name may be run by several processes of tests.
_own_folder = tempfile.TemporaryDirectory(prefix="vecferry-runs-")
os.environ["XDG_CONFIG_HOME"] = _own_folder.name

if os.environ.get("VECFERRY_VENDOR_JOBS"):  # a test may change the working folder
    os.environ["VECFERRY_VENDOR_JOBS"] = os.path.abspath(os.environ["VECFERRY_VENDOR_JOBS"])

ALL_MUST_RUN = os.environ.get("CI", "").lower() in ("1", "true") or bool(
    os.environ.get("VECFERRY_VENDOR_JOBS")
)

HERE = Path(__file__).parent
MAY_SKIP = ("not for this store: ", "not ours: ")
"""How the reason of a skip begins that hides nothing.

Another store shows the claim, or the test needs what we may not ship or rent.
"""


@pytest.fixture(autouse=True)
def _secrets_of_one_test_only() -> Generator[None]:
    """What one test keeps secret would be starred out in the words of every later one."""
    before = set(redaction._secrets)
    yield
    redaction._secrets.clear()
    redaction._secrets.update(before)


@pytest.fixture(autouse=True)
def _kinds_of_one_test_only() -> Generator[None]:
    """What one test registers would be a stepType of every later one."""
    with registry.using(registry.Registry()):
        yield


@pytest.fixture(autouse=True)
def _beside_others_or_alone(request: pytest.FixtureRequest) -> Generator[None]:
    """Among several processes, tests that measure time run while no other does."""
    with turn(request.node):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """The order of the tests."""
    add_options(parser)


def pytest_report_header(config: pytest.Config) -> str | None:
    """How to repeat the order of this session."""
    order = config.getoption("order", None)
    return f"order: --order {order}" if order else None


def pytest_configure(config: pytest.Config) -> None:
    """Before other processes are started."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what tests start would ignore it, too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    begin(config)
    config.pluginmanager.register(_AtOnce(config), "vecferry-at-once")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a server go to one process."""
    return scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a server stand together; what is long is for a long run."""
    take_turns(items)
    if items and not LONG and "long" not in items[0].config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("long")]
        items[0].config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    arrange(items)


def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays: the collector need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """A heavy server goes with its last test."""
    yield
    make_room(item, nextitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any) -> Generator[None, Any, Any]:
    """A test that was skipped counts as failed where all must run."""
    report = yield
    return report if hasattr(report, "wasxfail") else failed_if_hidden(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """So does a module that was skipped."""
    report = yield
    return failed_if_hidden(report)


def failed_if_hidden(report: Any) -> Any:
    """The report; failed where a skip would hide in continuous integration that nothing was run.

    What is absent there, a server, a package or a device, must be installed.
    """
    if ALL_MUST_RUN and report.skipped and not any(why in str(report.longrepr) for why in MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and nothing may be: {report.longrepr}"
    return report


class _AtOnce:
    """Tells of each failure when it comes: a run that is stopped shows no summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E  ")]
            terminal.write_line("")
            terminal.write_line(f"FAILED {report.nodeid}")
            for line in lines[:6]:
                terminal.write_line(line[:300])


def pytest_sessionfinish() -> None:
    """No server outlives the session that started it."""
    stop_all()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What a long run has shown is noted: of each module that passed, the date and figures."""
    if NOTED and not is_one_of_several(terminalreporter.config):
        for name, line in note_of(terminalreporter.stats, revision(), HERE / "LONG.md").items():
            terminalreporter.write_line(f"noted in tests/LONG.md: {name}: {line}")
