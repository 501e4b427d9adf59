"""What may be written as the address and the key of a service, checked before anything runs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vecferry.errors import without_query

_ODD = re.compile(r"[^!-~]|[\\?#]")
"""What no base URL holds: white space, other than ASCII, a query or a fragment."""


def checked_endpoint(url: str) -> str:
    """A base URL without a slash at its end; ValueError where requests to it could not be made."""
    if "@" in url:  # first, for the other messages show the URL
        raise ValueError("endpoint holds a user or password: put the key into apiKey instead")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, brackets that don't close
        good = False
    if not good:
        raise ValueError(
            f"endpoint {without_query(url)!r} is no URL: write the base URL, "
            "such as https://dashscope.aliyuncs.com/compatible-mode/v1"
        )
    odd = _ODD.search(url)
    if odd is not None:
        raise ValueError(
            f"endpoint {without_query(url)!r} holds {odd.group()!r}: write the base URL alone, "
            "without a query, in ASCII (a name of other letters as xn--…)"
        )
    return url.rstrip("/")


def key_fault(key: str) -> str | None:
    """Why a key can't be sent in a header, without showing it; None where it can."""
    if key.isascii() and key.isprintable():
        return None
    return (
        "apiKey holds a line break or another character that no key has: was it read from a file "
        "with a line's end?"
    )


def path_fault(name: str) -> str | None:
    """Why a model's name can't stand in a URL's path; None where it can."""
    if re.fullmatch(r"[\w.-]+", name, re.ASCII):
        return None
    return f"modelName {name!r} can't be a service id: it may hold letters, digits, _ . and -"
