"""Keeps secrets, and what would steer a terminal, out of texts that people read.

Apart from `vecferry.errors` because logs, reports, rejects and terminals need the rules as well. A
secret is found however it is spelled: with escapes of JSON, Python, URLs or XML, with spaces
between its characters, or within base64.
"""

from __future__ import annotations

import base64
import functools
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

LEAST_IN_ROWS = 8
"""A shorter secret may be a word of a row, and rows must not be changed for such words."""
STARS = "***"

_secrets: set[str] = set()
_LEAST = 4
_PART = 8
"""So many characters of a long secret in a row are hidden as the secret is."""
_LEAST_FOR_PARTS, _LEAST_OF_LETTERS, _MOST_FOR_PARTS = 16, 24, 512
_VALUES = re.compile(r"'[^']{80,}'|\[\d+(?:, \d+){9,}\]")
"""Long values in a message: a text in quotes, or bytes as numbers."""
_MOST_READ = 1 << 16
"""Of a longer text `shorten` reads the two ends only."""

_USERINFO = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}")
_QUERY = re.compile(
    r"(?i)([?&;#][\w.-]*(?:key|keyid|token|secret|passw(?:or)?d|pwd|auth|credential|signature|sig)=)"
    r"[^&;#\s'\"]+"
)
"""A part of a URL's query that is a secret by its name, such as ``?api_key=…``."""
_ESCAPES = (
    r"\\+u([dD][89abAB][0-9a-fA-F]{2})\\+u([dD][c-fC-F][0-9a-fA-F]{2})"  # one character
    r"|\\+u([0-9a-fA-F]{4})"
    r"|(?:\\+x|%(?:25)*)([0-9a-fA-F]{2})"
    r"|&#[xX]0*([0-9a-fA-F]{1,6});"
    r"|&#0*([0-9]{1,7});"
    r"|&(amp|lt|gt|quot|apos);"
    r"|\\+[nrt]|\\+|[ \t-\r]+"
)
_SPELLED, _SPELLED_BYTES = re.compile(_ESCAPES), re.compile(_ESCAPES.encode())
_ENTITIES = {"amp": b"&", "lt": b"<", "gt": b">", "quot": b'"', "apos": b"'"}
_DROPPED = b" \t\n\r\x0b\x0c\\"
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_BASE64_ON = re.compile(r"(?:[A-Za-z0-9+/_=-]|%(?:25)*(?:2[BbFf]|3[Dd]))*")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_UNSAFE_IN_LINE = re.compile(f"[\t\n]|{_UNSAFE.pattern}")


def keep_secret(value: str | None) -> None:
    """Makes `redact` replace `value` in this process from now on (4 characters or more)."""
    if value and len(value) >= _LEAST:
        _secrets.add(value)


def known_secrets() -> tuple[str, ...]:
    """What `keep_secret` was given, for another process of the same run."""
    return tuple(_secrets)


def redact(text: str) -> str:
    """`text` without the secrets known here, passwords and keys in URLs, or bearer tokens.

    Of a long secret, 8 characters in a row are taken out as well, since servers cut what they echo.
    """
    if _secrets:
        text = _without(text, _LEAST, parts=True)
    return _BEARER.sub(r"\1***", _QUERY.sub(r"\1***", _USERINFO.sub(STARS, text)))


def hide_secrets(text: str) -> str:
    """`text`, from a row, without known secrets that are too long to be there by chance."""
    return _without(text, LEAST_IN_ROWS, parts=False) if _secrets else text


def shorten(text: object, most: int = 200, form: Callable[[object], str] = str) -> str:
    """`text` without secrets on one line of at most `most` characters, for a message.

    The middle is left out, since what a value is stands at its beginning and a reason at the end.
    A value is written by `form`. If that raises, the value is named by its type: see `written`.
    """
    whole = written(text, form)
    if len(whole) > _MOST_READ:
        half = _MOST_READ // 2
        whole = f"{whole[:half]}…{whole[-half:]}"
    line = printable(" ".join(redact(whole).split()))
    if len(line) > most:
        line = _VALUES.sub(lambda m: f"{m[0][:40]}…{m[0][-1]}", line)
    if len(line) <= most:
        return line
    end = (most - 1) * 2 // 5
    return f"{line[: most - 1 - end]}…{line[len(line) - end :]}"


def written(value: object, form: Callable[[object], str] = str) -> str:
    """What `form` writes of a value that somebody gave; the type's name where it raises."""
    try:
        return form(value)
    except RecursionError:
        return f"{type(value).__name__} nested too deep to show"
    except Exception:  # such as a number of over 4,300 digits
        return f"{type(value).__name__} that can't be shown"


def printable(text: str, *, one_line: bool = False) -> str:
    r"""`text` with an escape, such as ``\x1b``, for each character that would steer a terminal.

    Line breaks and tabs stay, unless the text must be `one_line`.
    """
    if text.isascii() and text.isprintable():
        return text
    unsafe = _UNSAFE_IN_LINE if one_line else _UNSAFE
    return unsafe.sub(lambda m: ascii(m[0])[1:-1], text)


class RedactingFilter(logging.Filter):
    """Keeps secrets and control characters out of each record; belongs on each handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = printable(redact(message))
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = printable(redact(text)), None
        return True


@dataclass(frozen=True)
class _Needle:
    """One form of a secret, spelled plainly; one in base64 stands in a longer word."""

    text: bytes
    coded: bool = False


@dataclass(frozen=True)
class _Sought:
    """The forms of all secrets, the short secrets as they are, and what tells a part of one."""

    short: tuple[str, ...]
    whole: tuple[_Needle, ...]
    parts: frozenset[bytes]


@functools.lru_cache(maxsize=4)
def _sought(secrets: frozenset[str]) -> _Sought:
    by_length = sorted(secrets, key=len, reverse=True)
    long = [secret for secret in by_length if len(secret) >= LEAST_IN_ROWS]
    parts = {
        needle.text[i : i + _PART]
        for secret in long
        if _tells(secret)
        for needle in _forms(secret)
        for i in range(len(needle.text) - _PART + 1)
    }
    return _Sought(
        tuple(secret for secret in by_length if len(secret) < LEAST_IN_ROWS),
        tuple(needle for secret in long for needle in _forms(secret)),
        frozenset(parts),
    )


def _forms(secret: str) -> Iterator[_Needle]:
    for text in {secret, re.sub(r"\s", "+", secret)}:
        plain = _spelled(_data(text))
        if len(plain) >= _LEAST:
            yield _Needle(plain)
    data = _data(secret)
    for before in range(3):  # base64 takes three bytes at a time: the secret begins at one of them
        first, last = (0, 2, 3)[before], (before + len(data)) * 8 // 6
        core = base64.b64encode(b"\0" * before + data)[first:last]
        if len(core) >= _PART:
            for form in {core, core.translate(_URL_SAFE)}:
                yield _Needle(form, coded=True)


def _tells(secret: str) -> bool:
    """Whether a part tells the secret: words, addresses and documents have parts like any text."""
    if not _LEAST_FOR_PARTS <= len(secret) <= _MOST_FOR_PARTS or re.search(r"\s|://", secret):
        return False
    mixed = re.search(r"[0-9]", secret) and re.search(r"[A-Za-z]", secret)
    return bool(mixed) or len(secret) >= _LEAST_OF_LETTERS


def _without(text: str, least: int, *, parts: bool) -> str:
    """`text` with stars for each secret of at least `least` characters, however it is spelled."""
    sought = _sought(frozenset(_secrets))
    text = _without_long(text, sought, sought.parts if parts else frozenset())
    if least < LEAST_IN_ROWS:
        for secret in sought.short:
            text = text.replace(secret, STARS)
    return text


def _without_long(text: str, sought: _Sought, grams: frozenset[bytes]) -> str:
    plain = _spelled(_data(text))
    whole = [needle for needle in sought.whole if needle.text in plain]
    runs = [i for i in range(len(plain) - _PART + 1) if plain[i : i + _PART] in grams]
    if not whole and not runs:
        return text
    places = _places(text)
    spans = [(places[i][0], places[i + _PART - 1][1]) for i in runs]
    spans = [span for span in spans if not _is_word(text, *span)]
    for needle in whole:
        for found in re.finditer(re.escape(needle.text), plain):
            first, last = places[found.start()][0], places[found.end() - 1][1]
            spans.append(_word(text, first, last) if needle.coded else (first, last))
    return _starred(text, spans)


def _is_word(text: str, first: int, last: int) -> bool:
    """Whether a part of a secret is a word by itself, such as the noun in ``wrong-password-1``."""
    part, around = text[first:last], text[max(0, first - 1) : first] + text[last : last + 1]
    return part.isalpha() and part.islower() and not any(c.isalnum() or c == "-" for c in around)


def _word(text: str, first: int, last: int) -> tuple[int, int]:
    """The ends of the text in base64 around a part of it."""
    while first and text[first - 1] in _BASE64:
        first -= 1
    rest = _BASE64_ON.match(text, last)
    return first, rest.end() if rest else last


def _starred(text: str, spans: list[tuple[int, int]]) -> str:
    kept: list[str] = []
    end = 0
    for first, last in sorted(spans):
        if first > end or not kept:
            kept.append(text[end:first])
        end = max(end, last)
    return STARS.join([*kept, text[end:]])


def _places(text: str) -> list[tuple[int, int]]:
    """Where in `text` each byte of its plain spelling stands: first character and next one."""
    places: list[tuple[int, int]] = []
    end = 0
    for match in _SPELLED.finditer(text):
        for at in range(end, match.start()):
            places += [(at, at + 1)] * len(_data(text[at]))
        places += [match.span()] * len(_plain(match))
        end = match.end()
    for at in range(end, len(text)):
        places += [(at, at + 1)] * len(_data(text[at]))
    return places


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _spelled(data: bytes) -> bytes:
    """UTF-8 with each character in its plainest spelling, without white space."""
    if not any(sign in data for sign in b"\\%&"):
        return b"".join(data.split())
    return _SPELLED_BYTES.sub(_plain, data)


def _plain(match: re.Match[Any]) -> bytes:
    """The bytes that an escape stands for; none for white space."""
    high, low, four, byte, code, decimal, entity = match.groups()
    if high:
        point = 0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)
    elif byte:
        return bytes([int(byte, 16)]).strip(_DROPPED)
    elif entity:
        return _ENTITIES[entity if isinstance(entity, str) else entity.decode()]
    elif four or code:
        point = int(four or code, 16)
    elif decimal:
        point = int(decimal)
    else:
        return b""
    return _data(chr(point)).strip(_DROPPED) if point < 0x110000 else b""
