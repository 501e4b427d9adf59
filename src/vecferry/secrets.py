"""Where a secret comes from: what was filled into a job, and what is left to workers to fill.

What is pickled into a pipeline can be read by whoever sees the pipeline. With `left_to_workers` a
secret is pickled as the text that was written, such as ``${TOKEN}``, and filled on unpickling, from
the environment of the process that does so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vecferry.errors import JobError

PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][\w.-]*)(?::-([^}]*))?\}")

WRITTEN_OUT = (
    "--secrets worker: a secret is written out in the job or its data sources: write ${NAME} in "
    "its place, and set NAME in the environment of each worker"
)

_written: dict[str, str] = {}
_values: dict[str, str] = {}
_left = False


def keep_written(value: str, written: str) -> None:
    """Remembers that `value` was written as `written`, with placeholders in it."""
    _written[value] = written
    _values[written] = value


@contextmanager
def left_to_workers(left: bool = True) -> Iterator[None]:
    """Within, and in all threads, secrets are pickled without their values where `left` is true."""
    global _left
    before, _left = _left, left
    try:
        yield
    finally:
        _left = before


def written_as(value: str) -> str | None:
    """What to pickle in place of a secret; None where it may be pickled as it is.

    Raises JobError where it must not be and was not filled in from outside.
    """
    if not _left:
        return None
    if value not in _written:
        raise JobError(WRITTEN_OUT)
    return _written[value]


def written_out(values: list[str]) -> bool:
    """Whether one of `values` was not filled in from outside."""
    return any(value not in _written for value in values)


def filled(written: str) -> str:
    """The secret itself: as this process filled it, else from the environment; else JobError."""
    if written in _values:
        return _values[written]

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            raise JobError(f"--secrets worker: this worker's environment has no {name}")
        return str(found)

    return PLACEHOLDER.sub(value, written)


def names_of(values: list[str]) -> list[str]:
    """The variables that workers must have to fill `values`, which were written with them."""
    found = [PLACEHOLDER.findall(_written.get(value, "")) for value in values]
    return sorted({name for pairs in found for name, default in pairs if not default})
