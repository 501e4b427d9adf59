"""Where a vector cache is and how much it may hold: ``setting.vectorCache`` of a job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from vecferry.errors import JobError, keep_secret
from vecferry.settings import Secret, Settings

MAX_BYTES = 4 << 30
"""Size past which the vectors that were not used for longest are removed."""

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may stand behind the ``?`` of a rediss URI; each is the path of a file."""

WAYS = (
    "write sqlite:///folder/cache.db (from the current folder), sqlite:////folder/cache.db, "
    "redis://host:6379/0, or rediss:// for TLS, with user and password and an @ before the host"
)


def shown_uri(uri: str) -> str:
    """A vector cache's URI as it may be shown: without user, password and options."""
    plain = plain_uri(uri)
    if plain.startswith("sqlite:"):
        return plain
    # The last @, and any ?: what is written wrongly must not show a part of the password either.
    return re.sub(r"\?.*", "", re.sub(r"://.*@", "://***@", plain, flags=re.S), flags=re.S)


def plain_uri(uri: str) -> str:
    """The URI itself, with its password."""
    return uri.reveal() if isinstance(uri, Secret) else uri


def sqlite_path(uri: str) -> Path:
    """The file that a ``sqlite:///path`` means (four slashes for an absolute one)."""
    return Path(uri.removeprefix("sqlite:///"))


def uri_fault(uri: str) -> str | None:
    """What is wrong with a vector cache's URI and the way out, without its password; else None."""
    scheme = uri.partition("://")[0]
    if scheme == "sqlite":
        good = uri.startswith("sqlite:///") and len(uri) > len("sqlite:///")
        fault = None if good else "names no file"
    elif scheme in ("redis", "rediss"):
        fault = _redis_fault(uri)
    else:
        fault = "is not one that can be used"
    return fault and f"vectorCache uri {shown_uri(uri)!r} {fault}: {WAYS}"


def _redis_fault(uri: str) -> str | None:
    parts = urlsplit(uri)
    if "@" in uri and "@" not in parts.netloc:
        return "has one of / ? # in its password, which must be written as %2F, %3F, %23"
    try:
        port = parts.port
    except ValueError:
        return "has a port that is not a number from 1 to 65535"
    if not parts.hostname or port == 0:
        return "names no host"
    if not re.fullmatch(r"(/\d*)?", parts.path):
        return "has something after the host that is not the number of a database"
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if options - set(TLS_OPTIONS if parts.scheme == "rediss" else ()):
        return f"has an option that is not known; a rediss URI may have {', '.join(TLS_OPTIONS)}"
    return None


def _guarded(uri: str) -> str:
    """`uri`, as a text that hides itself where it holds a password."""
    plain = plain_uri(uri)
    user_info = re.search(r"://(.*)@", plain, flags=re.S)
    if user_info is None or plain.startswith("sqlite:"):
        return plain
    password = user_info[1].partition(":")[2] or user_info[1]
    for form in (password, unquote(password)):
        keep_secret(form)
    return Secret(plain)


class VectorCacheSettings(Settings):
    """Vectors kept across runs."""

    uri: Annotated[
        str,
        AfterValidator(_guarded),
        PlainSerializer(shown_uri, return_type=str),
        Field(
            description="sqlite:///path, redis://host:port/db or rediss://…",
            json_schema_extra={"pattern": r"^(sqlite:///|redis://|rediss://)"},
        ),
    ]
    max_bytes: int = Field(
        MAX_BYTES, ge=1 << 20, description="past it the vectors unused for longest are removed"
    )

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        # Seen to here, not at the field: an error shows the value of a field, password and all.
        uri = value.get("uri") if isinstance(value, dict) else None
        if isinstance(uri, str):
            _guarded(uri)
            fault = uri_fault(plain_uri(uri))
            if fault is not None:
                raise ValueError(fault)
        return value


def cache_settings(uri: str, max_bytes: int = MAX_BYTES) -> VectorCacheSettings:
    """The settings of the vector cache at `uri`; JobError where there can be none."""
    _guarded(uri)
    fault = uri_fault(plain_uri(uri))
    if fault is not None:
        raise JobError(fault)
    return VectorCacheSettings(uri=uri, max_bytes=max_bytes)
