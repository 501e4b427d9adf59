"""How much a test tries: a small part in every run, all of it by `./run_tests.sh long`.

`@tries(few, many)` is for properties that Hypothesis tries by examples, `some(values, few)` and
`spread(values, few)` for a test of many seeds or cases. A test that is marked `long` runs in a long
run only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

LONG = os.environ.get("VECFERRY_LONG", "0") != "0"
NOTED = os.environ.get("VECFERRY_LONG") == "noted"
"""Whether this is a whole long run, whose figures are worth a line in tests/LONG.md."""

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
