"""``vecferry report compare A B``: what two runs did, side by side.

A report is a file of ``--report``, JSON or HTML, or one of ``--events``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli.options import json_option
from vecferry.pipelines.cli.output import say, say_json


@click.group()
def report() -> None:
    """Look at the reports of runs."""


@report.command()
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@json_option
def compare(a: str, b: str, as_json: bool) -> None:
    """Show the numbers in which the reports A and B differ."""
    one, other = numbers_of(read_report(a)), numbers_of(read_report(b))
    found: list[dict[str, Any]] = [
        {"name": name, "a": one.get(name), "b": other.get(name)}
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    if as_json:
        say_json({"a": a, "b": b, "differences": found})
        return
    if not found:
        say("the reports have the same numbers")
        return
    cells = [("", a, b, "B to A"), *(_cells(n["name"], n["a"], n["b"]) for n in found)]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    for name, *values in cells:
        told = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        say("  ".join([name.ljust(widths[0]), *told]).rstrip())


def _cells(name: str, a: Any, b: Any) -> tuple[str, str, str, str]:
    both = a and isinstance(a, int | float) and isinstance(b, int | float)
    return name, _shown(a), _shown(b), f"{100 * (b / a - 1):+,.1f} %" if both else ""


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}"
    return "-" if value is None else str(value)


def read_report(path: str) -> dict[str, Any]:
    """The report in a file; raises JobError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise JobError(f"{path}: can't be read: {e}; name a file of --report") from e
    inside = re.search(r'id="vecferry-report">(.*)</script>', text)
    try:
        found = json.loads(inside[1] if inside else text)
    except (ValueError, RecursionError):
        found = _last_line(text)
    if isinstance(found, dict):
        found = found.get("report", found)
    if not isinstance(found, dict) or "rows_read" not in found:
        raise JobError(f"{path}: is not the report of a run; name a file of --report or --events")
    return found


def _last_line(text: str) -> Any:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        return None


def numbers_of(report: dict[str, Any], above: str = "") -> dict[str, Any]:
    """The state and all numbers of a report, by their paths, such as ``embed.requests``."""
    found: dict[str, Any] = {}
    for name, value in report.items():
        if name == "rejected_by":
            found |= {f"rejected {r['step']}: {r['reason']}": r["rows"] for r in value}
        elif isinstance(value, dict) and name not in ("span", "position"):
            found |= numbers_of(value, f"{above}{name}.")
        elif name == "state" or (isinstance(value, int | float) and type(value) is not bool):
            found[above + name] = value
    return found
