"""``vecferry rejects``: what a run rejected, by step and reason, row by row, and as CSV."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import click
import orjson

from vecferry.errors import JobError, hide_secrets, printable, shorten
from vecferry.pipelines.cli.options import json_option
from vecferry.pipelines.cli.output import say, say_result, tell

Line = Mapping[str, Any]

_ABOUT = ("step", "reason", "message", "origin", "key")
MOST_COLUMNS = 1000
"""The most columns of a CSV file; rows of one step seldom have more."""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--step", help="Only rejects of this step.")
@click.option("--reason", help="Only rejects for this reason.")
@click.option(
    "--rows", type=click.IntRange(0), default=5, show_default=True, help="How many are shown."
)
@click.option("--csv", "csv_file", metavar="FILE", help="Write all of them to FILE; - prints them.")
@json_option
def rejects(
    folder: str,
    step: str | None,
    reason: str | None,
    rows: int,
    csv_file: str | None,
    as_json: bool,
) -> None:
    """Show the rejects in DIR, the folder of a run; of several runs, those of the newest."""
    from vecferry.pipelines.run.rejects import reject_lines

    folder = _run_of(folder)

    def chosen() -> Iterator[Line]:
        for line in reject_lines(folder):
            if step in (None, line["step"]) and reason in (None, line["reason"]):
                yield line

    if csv_file is not None:
        _write_csv(csv_file, chosen)
        return
    counts: Counter[tuple[str, str]] = Counter()
    shown: list[Line] = []
    for line in chosen():
        counts[line["step"], line["reason"]] += 1
        if len(shown) < rows:
            shown.append(line)
    if as_json:
        by = [{"step": s, "reason": r, "rows": n} for (s, r), n in counts.most_common()]
        say_result({"folder": folder, "rows": counts.total(), "by": by, "shown": shown})
        return
    say(f"{folder}: {counts.total():,} rejects")
    for (name, why), number in counts.most_common():
        say(f"  {number:,} rejected by {name}: {why}")
    for line in shown:
        _show(line)


def _run_of(folder: str) -> str:
    """The folder of a run: the one that is named, or the newest of those in it."""
    path = Path(folder)
    if "://" in folder or any(path.glob("part-*.jsonl")):
        return folder
    parts = sorted(path.glob("*/part-*.jsonl"), key=lambda part: part.stat().st_mtime)
    if not parts:
        raise JobError(
            f"{folder}: has no rejects (part-*.jsonl); name the folder that the run has told"
        )
    runs = {part.parent for part in parts}
    if len(runs) > 1:
        tell(f"note: {folder} has {len(runs)} runs; this is the newest")
    return str(parts[-1].parent)


def _show(line: Line) -> None:
    where = f" at {line['origin']}" if line.get("origin") else ""
    say(f"\n{line['step']}: {line['reason']}{where}")
    say(f"  {shorten(line.get('message', ''), 300)}")
    row = line.get("row")
    values = {"raw": line.get("raw")} if row is None else row
    for name, value in values.items():
        say(f"  {printable(str(name), one_line=True)}={shorten(value, 100, repr)}")


def _write_csv(file: str, chosen: Callable[[], Iterator[Line]]) -> None:
    """Writes rejects with a column for each of the rows' columns; reads the lines twice."""
    columns = list(dict.fromkeys(name for line in chosen() for name in line.get("row") or ()))
    if len(columns) > MOST_COLUMNS:
        raise JobError(
            f"--csv: the rows have {len(columns):,} columns, more than {MOST_COLUMNS:,}; choose "
            "a step with --step"
        )
    if file == "-":
        _write_lines(sys.stdout, columns, chosen())
        return
    try:
        with open(file, "w", encoding="utf-8", newline="") as out:
            number = _write_lines(out, columns, chosen())
    except OSError as e:
        raise JobError(f"--csv {file}: can't be written ({e.strerror}); name another file") from e
    say(f"{number:,} rejects written to {os.path.abspath(file)}")


def _write_lines(out: IO[str], columns: list[str], lines: Iterator[Line]) -> int:
    writer = csv.writer(out)
    writer.writerow([*_ABOUT, "raw", *columns])
    number = 0
    for line in lines:
        row = line.get("row") or {}
        values = [line.get(name) for name in (*_ABOUT, "raw")] + [row.get(c) for c in columns]
        writer.writerow([_cell(value) for value in values])
        number += 1
    return number


def _cell(value: object) -> str:
    if value is None:
        return ""
    return hide_secrets(value if isinstance(value, str) else orjson.dumps(value).decode())
