"""Bodies of definitions, given in a job or in files of JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vecferry.errors import JobError
from vecferry.pipelines.job.documents import parse_document

Document = dict[str, Any]


def is_file(text: str) -> bool:
    """Whether a text names a file of JSON, and not something on a server."""
    return text.endswith(".json") or os.sep in text


def plain(value: object) -> object:
    """A value of a file with plain numbers, as JSON is written of them."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(value)
    return value if isinstance(value, bool) or not isinstance(value, int) else int(value)


def body_of(given: str | Document, what: str) -> Document:
    """A body that is given, or that stands in a file. Raises JobError."""
    if isinstance(given, dict):
        return given
    found = parse_document(Path(given), what)
    if not isinstance(found, dict):
        raise JobError(f"{given}: the body of a {what} is an object of JSON: write it as {{ … }}")
    return {str(name): plain(part) for name, part in found.items()}
