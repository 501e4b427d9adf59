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
from typing import Any

import click
import orjson

from vecferry.errors import hide_secrets, printable, redact

_BEYOND_ASCII = re.compile("[^\x00-\x7e]")
_LONG_VALUE = re.compile(r"\S{300,}|'[^'\n]{1000,}'")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


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


def tell(text: str) -> None:
    """Prints an error or a warning to standard error; long values in it lose their middles."""
    _write(printable(_LONG_VALUE.sub(_ends, redact(text))) + "\n", err=True)


def _ends(match: re.Match[str]) -> str:
    return f"{match[0][:120]}…{match[0][-60:]}"


def say_json(value: object) -> None:
    """Prints `value` as JSON, with escapes for what the encoding of the output lacks."""
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
