"""Reads JSON and YAML files, with errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from vecferry.errors import JobError


def parse_document(path: Path, what: str) -> Any:
    """The content of a JSON or YAML file; JobError where it is absent or neither.

    A file that ends in ``.yaml`` or ``.yml`` is YAML, ``.json`` is JSON, anything else is YAML,
    of which JSON is a part.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near_by = sorted(p.name for p in path.parent.glob("*") if p.suffix == path.suffix)[:5]
        hint = f"; {path.parent} has {', '.join(near_by)}" if near_by else ""
        raise JobError(f"{path}: there is no such {what} file{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise JobError(f"{path}: can't be read as a {what} file: {e}") from e
    return _parse_json(path, text) if path.suffix == ".json" else _parse_yaml(path, text)


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        # The line itself is not shown: it may hold a key.
        raise JobError(f"{path}: is not JSON: line {e.lineno}, column {e.colno}: {e.msg}") from None


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise JobError(
            f"{path}: is not YAML: {where}{getattr(e, 'problem', None) or 'unreadable'}"
        ) from None
