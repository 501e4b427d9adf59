"""One line for each reject, though a runner repeats bundles: a run's folder, tidied at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import fsspec
import orjson

ONCE = "part-once.jsonl"


def count_rejects(folder: str) -> dict[tuple[str, str], int]:
    """As `tidy_rejects`, while a run goes on: nothing is rewritten."""
    fs, path = fsspec.core.url_to_fs(folder)
    lines = _distinct(fs, sorted(fs.glob(f"{path.rstrip('/')}/part-*.jsonl")))
    return dict(Counter((line["step"], line["reason"]) for _, line in lines))


def tidy_rejects(folder: str) -> dict[tuple[str, str], int]:
    """How many rejects there are by (step, reason), each (step, origin) counted once.

    Where a line was written twice, the parts of `folder` (local, or any fsspec URL) are replaced by
    one that has it once. No worker may write any more.
    """
    fs, path = fsspec.core.url_to_fs(folder)
    parts = sorted(fs.glob(f"{path.rstrip('/')}/part-*.jsonl"))
    counts: Counter[tuple[str, str]] = Counter()
    total = 0
    for _, line in _distinct(fs, parts):
        counts[line["step"], line["reason"]] += 1
    for part in parts:
        with fs.open(part, "rb") as lines:
            total += sum(1 for _ in lines)
    if total > counts.total():
        _write_once(fs, path, parts)
    return dict(counts)


def _write_once(fs: Any, path: str, parts: list[str]) -> None:
    new = f"{path.rstrip('/')}/once.part"
    with fs.open(new, "wb") as out:
        for text, _ in _distinct(fs, parts):
            out.write(text)
    for part in parts:
        fs.rm_file(part)
    fs.mv(new, f"{path.rstrip('/')}/{ONCE}")


def _distinct(fs: Any, parts: list[str]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each reject once, as text and parsed; a line that was cut off is left out."""
    seen: set[tuple[str, str]] = set()
    for part in parts:
        with fs.open(part, "rb") as lines:
            for text in lines:
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    continue
                mark = (line["step"], line["origin"])
                if line["origin"] and mark in seen:
                    continue
                seen.add(mark)
                yield text, line
