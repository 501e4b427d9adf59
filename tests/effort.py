"""How much a test tries: a small part in every run, all of it by `./run_tests.sh long`.

`@tries(few, many)` is for properties that Hypothesis tries by examples, `some(values, few)` and
`spread(values, few)` for a test of many seeds or cases. Of tests that are marked
`in_turn("server")` and differ in their server alone, one runs in each run. Neighbours take the
servers in turn. A test that is marked `long` runs in a long run only.
"""

from __future__ import annotations

import datetime
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
LONG = os.environ.get("VECFERRY_LONG", "0") != "0"
NOTED = os.environ.get("VECFERRY_LONG") == "noted"
"""Whether this is a long run of whole modules, each of which is worth a line in tests/LONG.md."""

SLOW = [HealthCheck.too_slow]
"""What Hypothesis does not complain of. Beside other work, making an example may take a second."""
settings.register_profile(
    "tests", max_examples=100 if LONG else 40, deadline=None, suppress_health_check=SLOW
)
settings.load_profile("tests")


def tries(few: int, many: int, **options: Any) -> Callable[[Any], Any]:
    """Hypothesis's `settings`: `few` examples, in a long run `many`; no limit of time for each."""
    checks = [*SLOW, *options.pop("suppress_health_check", ())]

    def decorate(function: Any) -> Any:
        tried = settings(
            max_examples=many if LONG else few,
            deadline=None,
            suppress_health_check=checks,
            **options,
        )(function)
        return pytest.mark.tries(tried)

    return decorate


def some(values: Sequence[Any], few: int) -> list[Any]:
    """The values of a parametrized test, all but the first `few` for a long run only.

    A tuple has the values of several parameters.
    """
    return [
        value if at < few else pytest.param(*_parameters(value), marks=pytest.mark.long)
        for at, value in enumerate(values)
    ]


def _parameters(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def spread(values: Sequence[Any], few: int) -> list[Any]:
    """As `some`, with the first `few` taken from all over the values."""
    each = -(-len(values) // few)
    taken = values[::each]
    return some([*taken, *(v for i, v in enumerate(values) if i % each)], len(taken))


def take_turns(items: Sequence[pytest.Item]) -> None:
    """Marks as long what is marked `in_turn`, but for one of the tests that differ in that alone.

    Which one it is depends on nothing but the names of the tests.
    """
    alike: dict[tuple[str, ...], list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("in_turn")
        call = getattr(item, "callspec", None)
        if mark is None or call is None or item.get_closest_marker("long"):
            continue
        given = (
            f"{name}={value!r}" for name, value in call.params.items() if name not in mark.args
        )
        base = item.nodeid.partition("[")[0]
        alike.setdefault((base, *given), []).append(item)
    for nth, group in enumerate(alike[key] for key in sorted(alike)):
        taken = nth % len(group)
        for at, item in enumerate(sorted(group, key=lambda item: item.nodeid)):
            if at != taken:
                item.add_marker(pytest.mark.long)


def revision() -> str:
    """What is checked out, as git names it; a note of a run before makes it no other."""

    def git(*asked: str) -> str:
        line = ["git", *asked]
        return subprocess.run(line, capture_output=True, text=True, cwd=HERE).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!LONG.md")
    return git("describe", "--always") + ("-dirty" if changed else "")


def note_of(stats: dict[str, list[Any]], revision: str, file: Path) -> dict[str, str]:
    """Puts a line for each module that passed in place of its last one in a file.

    Gives the lines by module. The minutes are those of all processes together.
    """
    failed = {
        report.nodeid.partition("::")[0]
        for kind in ("failed", "error")
        for report in stats.get(kind, ())
    }
    tests: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for report in stats.get("passed", ()):
        module = report.nodeid.partition("::")[0]
        tests[module] += 1
        seconds[module] += report.duration
    today = datetime.date.today()
    lines = {
        module: f"| `{module}` | {today} | {revision} | {count} | {seconds[module] / 60:.1f} |"
        for module, count in tests.items()
        if module not in failed
    }
    head, rule, rows = file.read_text(encoding="utf-8").partition("|---|---|---|---|---|\n")
    kept = {row.split("`")[1]: row for row in rows.splitlines() if row}
    text = "\n".join(row for _, row in sorted({**kept, **lines}.items()))
    file.write_text(f"{head}{rule}{text}\n", encoding="utf-8")
    return lines
