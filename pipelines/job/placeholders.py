"""Fills a job from outside: ``${name}`` placeholders and ``--set`` values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vecferry.errors import JobError, near
from vecferry.pipelines.job.documents import DocumentError, parse_value
from vecferry.secrets import PLACEHOLDER as PLACEHOLDER

ALIKE = 0.85
"""How near an environment variable's name must be for a guess: there are many variables."""
_INDEX = re.compile(r"\[(\d+)\]")


def fill(
    value: object,
    values: Mapping[str, str],
    path: str = "",
    written: dict[str, str] | None = None,
) -> tuple[Any, list[str]]:
    """`value` with every ``${name}`` and ``${name:-default}`` replaced.

    Gives the filled copy and a problem for each placeholder that has no value. What each filled
    text was written as is put into `written`.
    """
    problems: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name in values:
            return str(values[name])
        if default is not None:
            return str(default)
        problems.append(
            f"{path or 'job'}: ${{{name}}} has no value: give -p {name}=… or set the environment "
            f"variable {name}{near(name, values, ALIKE)}"
        )
        return match.group(0)

    if isinstance(value, str):
        text = PLACEHOLDER.sub(replace, value)
        if text != value and written is not None:
            written[text] = value
        return text, problems
    if isinstance(value, dict):
        filled: dict[Any, Any] = {}
        for key, child in value.items():
            filled[key], more = fill(child, values, f"{path}.{key}" if path else str(key), written)
            problems += more
        return filled, problems
    if isinstance(value, list):
        items = []
        for i, child in enumerate(value):
            item, more = fill(child, values, f"{path}[{i}]", written)
            items.append(item)
            problems += more
        return items, problems
    return value, problems


def names_in(value: Any) -> set[str]:
    """The names of all placeholders in `value`."""
    if isinstance(value, str):
        return {name for name, _ in PLACEHOLDER.findall(value)}
    children = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return set()
    return set().union(*map(names_in, children))


def parse_assignments(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dict; raises JobError for a text without name or equals sign."""
    result = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            what = "PATH" if option == "--set" else "NAME"
            begin = re.match(r"[\w.-]*", name)[0]  # type: ignore[index]
            rest = "…" if begin != name else ""  # it may be a secret behind another sign
            raise JobError(f"{option} {begin + rest!r}: must be {what}=VALUE")
        result[name] = value
    return result


def set_value(job: object, path: str, text: str) -> None:
    """Sets the value at a dotted `path` of `job`, such as ``steps.1.parameter.endpoint``.

    `text` is read as JSON if it is JSON, else unchanged. A new last name is added; raises JobError
    if another part of the path is missing.
    """
    *parents, last = _INDEX.sub(r".\1", path).strip(".").split(".")
    here = job
    for n, part in enumerate(parents, 1):
        here = _child(here, part, path, ".".join(parents[:n]))
    try:
        value = parse_value(text)
    except DocumentError as e:
        raise JobError(f"--set {path}: {e}") from None
    if isinstance(here, list):
        here[_position(here, last, path)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise JobError(f"--set {path}: {last!r} can't be set in a {type(here).__name__}")


def _child(here: Any, part: str, path: str, so_far: str) -> Any:
    if isinstance(here, list):
        return here[_position(here, part, path)]
    if isinstance(here, dict) and part in here:
        return here[part]
    known = list(here) if isinstance(here, dict) else []
    hint = near(part, known)
    if isinstance(here, dict) and not hint:
        hint = f"; add it as a whole, as JSON: --set '{so_far}={{…}}'"
    raise JobError(f"--set {path}: the job does not have {part!r}{hint}")


def _position(items: list[Any], part: str, path: str) -> int:
    named = [
        i for i, item in enumerate(items) if isinstance(item, dict) and item.get("name") == part
    ]
    if len(named) == 1:
        return named[0]
    if re.fullmatch(r"[0-9]{1,6}", part) and int(part) < len(items):
        return int(part)
    names = [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
    known = f" of {', '.join(names)}" if names else ""
    raise JobError(
        f"--set {path}: {part!r} must be a number from 0 to {len(items) - 1} or a name{known}"
        f"{near(part, names)}"
    )
