"""Reads JSON and YAML files, with errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from vecferry.errors import JobError


class _TwiceError(Exception):
    """A key stands twice in one object, so one of its values would be lost silently."""

    def __init__(self, key: str, where: str = "") -> None:
        super().__init__(f"{where}the key {key!r} is there twice in one object: remove one of them")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML that reports a repeated key as a mistake."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """The mapping of a node; a merge key (``<<``) may be overridden as YAML says."""
        seen: set[str] = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _TwiceError(key.value, f"line {key.start_mark.line + 1}: ")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse_document(path: Path, what: str) -> Any:
    """The content of a JSON or YAML file; raises JobError if the file is missing or neither.

    A file that ends in ``.json`` is JSON. Any other file is YAML, of which JSON is a part.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near_by = sorted(p.name for p in path.parent.glob("*") if p.suffix == path.suffix)[:5]
        hint = f"; {path.parent} has {', '.join(near_by)}" if near_by else ""
        raise JobError(f"{path}: this {what} file does not exist{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise JobError(f"{path}: cannot be read as a {what} file: {e}") from e
    return _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as e:
        # The line itself is not shown: it may hold a key.
        raise JobError(f"{path}: is not JSON: line {e.lineno}, column {e.colno}: {e.msg}") from None
    except _TwiceError as e:
        raise JobError(f"{path}: {e}") from None


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except _TwiceError as e:
        raise JobError(f"{path}: {e}") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise JobError(
            f"{path}: is not YAML: {where}{getattr(e, 'problem', None) or 'unreadable'}"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found
