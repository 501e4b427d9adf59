"""Where a vector cache is and how much it may hold: ``setting.vectorCache`` of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from vecferry.errors import JobError
from vecferry.fields import in_form
from vecferry.redis_access import guarded, is_redis, plain_uri, redis_fault
from vecferry.redis_access import shown_uri as shown_redis_uri
from vecferry.settings import Settings

MAX_BYTES = 4 << 30
"""Size past which the vectors that were not used for longest are removed."""

WAYS = (
    "write sqlite:///folder/cache.db (from the current folder), sqlite:////folder/cache.db, "
    "redis://host:6379/0, or rediss:// for TLS, with user and password and an @ before the host"
)


def shown_uri(uri: str) -> str:
    """A vector cache's URI as it may be shown: without user, password and options."""
    plain = plain_uri(uri)
    return plain if plain.startswith("sqlite:") else shown_redis_uri(plain)


def sqlite_path(uri: str) -> Path:
    """The file that a ``sqlite:///path`` means (four slashes for an absolute one)."""
    return Path(uri.removeprefix("sqlite:///")).expanduser()


def uri_fault(uri: str) -> str | None:
    """What is wrong with a vector cache's URI and the way out, without its password; else None."""
    scheme = uri.partition("://")[0]
    if scheme == "sqlite":
        good = uri.startswith("sqlite:///") and len(uri) > len("sqlite:///")
        fault = None if good else "names no file"
    elif is_redis(uri):
        fault = redis_fault(uri)
    else:
        fault = "is not one that can be used"
    return fault and f"vectorCache uri {shown_uri(uri)!r} {fault}: {WAYS}"


def _guarded(uri: str) -> str:
    """`uri`, as a text that hides itself where it holds a password."""
    plain = plain_uri(uri)
    return plain if plain.startswith("sqlite:") else guarded(plain)


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
    ] = Field(
        title="URI",
        description="`sqlite:///path`, `redis://host:port/database`, or `rediss://…` for TLS",
        examples=["sqlite:///vectors-cache.db"],
        json_schema_extra=in_form("connection", see="vector-cache.md"),
    )
    max_bytes: int = Field(
        MAX_BYTES,
        ge=1 << 20,
        description="size limit of the cache; the vectors unused for longest are removed",
        examples=[1073741824],
        json_schema_extra=in_form("limits", advanced=True),
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
