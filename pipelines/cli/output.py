"""What a command prints: without secrets, without what steers a terminal, in any encoding.

Apart from `vecferry.pipelines.cli.commands` because each command prints. A reader that closes its
end of a pipe has seen enough: this is not a failure, and what is printed afterwards goes nowhere.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from vecferry.errors import JobError, hide_secrets, printable, redact
from vecferry.pipelines.job.problems import Problem, as_told

_log_lines = [False]
_BEYOND_ASCII = re.compile("[^\x00-\x7e]")
_LONG_VALUE = re.compile(r"\S{300,}|'[^'\n]{1000,}'")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@dataclass
class _Told:
    """What a command has told by now, for its one JSON object.

    `as_json` says whether the command line asks for JSON, `printed` whether it was printed.
    """

    as_json: bool = False
    printed: bool = False
    warnings: list[str] = field(default_factory=list)


_told = _Told()


def begin(*, as_json: bool) -> None:
    """Begins a command, which has told nothing yet."""
    global _told
    _told = _Told(as_json=as_json)


def set_up_streams() -> None:
    """Makes both streams write an escape for each character that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, *, end: str = "\n") -> None:
    """Prints what was asked for. Rows are among it, so short secrets stay: they may be words."""
    _write(printable(hide_secrets(text)) + end, err=False)


def say_styled(text: str) -> None:
    """Prints a table with its styles, whose texts are `printable` already."""
    _write(text, err=False)


def as_log_lines(wanted: bool) -> None:
    """Makes `tell` print lines of JSON, as the log has them, or text again."""
    _log_lines[:] = [wanted]


def are_log_lines() -> bool:
    """Whether `tell` prints lines of JSON."""
    return _log_lines[0]


def tell(text: str) -> None:
    """Prints an error or a warning to standard error; long values in it lose their middles."""
    clean = printable(_LONG_VALUE.sub(_ends, redact(text)))
    if are_log_lines():
        level, _, rest = clean.partition(": ")
        known = level in ("error", "warning")
        clean = json.dumps(
            {
                "time": datetime.now().astimezone().isoformat(timespec="seconds"),
                "level": level if known else "info",
                "logger": "vecferry",
                "message": rest if known else clean,
            }
        )
    _write(clean + "\n", err=True)


def write_line(line: str) -> None:
    """Writes a line to standard output, where it is at once; raises OSError."""
    sys.stdout.write(line)
    sys.stdout.flush()


def require_writable(option: str, path: str | None) -> None:
    """Raises JobError before the run if a file cannot be written; folders may be new."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    while option == "--rejects" and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise JobError(
            f"{option} {path}: {folder} is not a folder that vecferry can write to; name another"
        )


def _ends(match: re.Match[str]) -> str:
    return f"{match[0][:120]}…{match[0][-60:]}"


def warn(text: str) -> None:
    """Prints a warning to standard error; the JSON object of the command has it as well."""
    tell(f"warning: {text}")
    _told.warnings.append(as_told(text))


def say_result(found: Mapping[str, Any], errors: Iterable[str] = ()) -> None:
    """Prints what a command found as one JSON object, with its errors and warnings."""
    told = {
        "errors": [Problem.of(error).to_json() for error in errors],
        "warnings": list(dict.fromkeys(_told.warnings)),
    }
    say_json({**told, **found})


def say_errors(errors: Iterable[str]) -> None:
    """Prints the errors that end a command, on standard error and, if asked for, as JSON."""
    errors = list(errors)
    for error in errors:
        tell(f"error: {error}")
    in_json(errors)


def in_json(errors: Iterable[str]) -> None:
    """Prints errors as the JSON object of a command that was asked for JSON and has told none."""
    if _told.as_json and not _told.printed:
        say_result({}, errors)


def say_json(value: object) -> None:
    """Prints `value` as JSON, with escapes for what the encoding of the output lacks."""
    _told.printed = True
    text = as_json(value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        try:
            text.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            text = _BEYOND_ASCII.sub(_escape, text)
    _write(text + "\n", err=False)


def as_json(value: object) -> str:
    """`value` as JSON without secrets; what steers a terminal is escaped."""
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    return _UNSAFE_IN_JSON.sub(_escape, hide_secrets(data.decode()))


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _write(text: str, *, err: bool) -> None:
    try:
        click.echo(text, nl=False, file=sys.stderr if err else sys.stdout)
    except BrokenPipeError:
        _leave(sys.stderr if err else sys.stdout)


def flush() -> None:
    """Hands on what is printed; called before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            _leave(stream)
        except ValueError:  # closed already
            continue


def _leave(stream: Any) -> None:
    """Lets a stream write to nowhere, as its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
