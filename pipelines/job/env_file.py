"""Variables from ``.env`` files, for placeholders and for all that reads the environment.

Stands apart from `placeholders` because a file is read once, before the job is known.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

from vecferry.errors import JobError, keep_secret, shorten
from vecferry.secrets import SECRET_NAME


def read_env_files(paths: Iterable[str]) -> None:
    """Puts the variables of files into the environment, which wins; a later file wins over others.

    A value whose name is that of a secret is kept secret. Values are taken as they stand: nothing
    in them is expanded. Raises JobError for a file that can't be read.
    """
    found: dict[str, str] = {}
    for path in paths:
        found |= _variables(path)
    for name, value in found.items():
        if SECRET_NAME.search(name):
            keep_secret(value)
        os.environ.setdefault(name, value)


def _variables(path: str) -> dict[str, str]:
    try:
        from dotenv.parser import parse_stream
    except ImportError:
        raise JobError(
            f"--env-file {path}: python-dotenv is not installed; pip install 'vecferry[dotenv]'"
        ) from None
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as e:
        raise JobError(f"--env-file {path}: cannot be read: {shorten(e)}") from None
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        line = f"--env-file {path}: line {binding.original.line}"
        if binding.error:
            raise JobError(f"{line} is not NAME=VALUE; write it so, or put a # before it")
        if binding.key is not None:
            if binding.value is None:
                raise JobError(f"{line}: {binding.key} has no value; write {binding.key}=VALUE")
            found[binding.key] = binding.value
    return found
