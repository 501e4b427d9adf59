"""Where positions may be kept: ``setting.positions`` of a job."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer

from vecferry.redis_access import guarded, is_redis, plain_uri, redis_fault, shown_uri

FILES = {"s3": "s3", "s3a": "s3", "oss": "oss", "gs": "gcs", "gcs": "gcs", "hdfs": "hdfs"}
"""The type of data source that reaches a URI, by the URI's scheme."""

WAYS = (
    "write a folder of this machine, oss://bucket/folder, s3://bucket/folder, gs://bucket/folder, "
    "hdfs://host:port/folder, or redis://host:port/database/name (rediss:// for TLS)"
)

_REDIS = re.compile(
    r"(?P<server>rediss?://(?:.*@)?[^/?#]*(?:/\d*)?)(?:/(?P<name>[^/?#]+))?(?P<rest>\?.*)?"
)


def redis_parts(uri: str) -> tuple[str, str | None]:
    """The URI of a Redis without the name of the positions in it, and that name."""
    found = _REDIS.fullmatch(plain_uri(uri))
    if found is None or (found["name"] and not re.search(r"/\d+$", found["server"])):
        return plain_uri(uri), None
    return found["server"] + (found["rest"] or ""), found["name"]


def place_fault(where: str) -> str | None:
    """What is wrong with a place of positions and the way out, without a password; else None."""
    fault = _fault(plain_uri(where))
    return fault and f"positions {shown(where)!r} {fault}: {WAYS}"


def _fault(where: str) -> str | None:
    scheme, separator, rest = where.partition("://")
    if not separator:
        return None if where.strip() else "is empty"
    if is_redis(where):
        return redis_fault(redis_parts(where)[0])
    if scheme not in FILES:
        return "is not one that can be used"
    parts = urlsplit(where)
    if "@" in rest or parts.query or parts.fragment:
        return "holds more than a bucket and a folder; keys belong into a data source"
    if not parts.netloc and scheme != "hdfs":
        return "names no bucket"
    names = [name for name in parts.path.split("/") if name not in ("", ".")]
    if ".." in names:
        return "leads out with .."
    return None if names else "names no folder"


def shown(where: str) -> str:
    """A place as it may be shown: without user, password and options."""
    return shown_uri(where) if "://" in plain_uri(where) else plain_uri(where)


def _guarded(where: str) -> str:
    return guarded(where) if "://" in plain_uri(where) else plain_uri(where)


PlaceUri = Annotated[
    str,
    AfterValidator(_guarded),
    PlainSerializer(shown, return_type=str),
    Field(description="a folder, or the URI of an object store, of HDFS or of Redis"),
]
"""A place of positions; a text that hides itself where it holds a password."""


def guard(where: object) -> None:
    """Keeps the password of a place out of what is told from now on; raises ValueError."""
    if isinstance(where, str):
        _guarded(where)
        fault = place_fault(where)
        if fault is not None:
            raise ValueError(fault)
