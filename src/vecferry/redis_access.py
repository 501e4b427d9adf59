"""How a Redis is reached: what its URI may say, how the URI is shown, and the client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from vecferry.errors import JobError, keep_secret
from vecferry.secrets import Secret

if TYPE_CHECKING:
    from redis import Redis

SCHEMES = ("redis", "rediss")

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""What may stand behind the ``?`` of a rediss URI; each is the path of a file."""


def is_redis(uri: str) -> bool:
    """Whether a URI is one of Redis."""
    return uri.partition("://")[0] in SCHEMES


def plain_uri(uri: str) -> str:
    """The URI itself, with its password."""
    return uri.reveal() if isinstance(uri, Secret) else uri


def shown_uri(uri: str) -> str:
    """A URI as it may be shown: without user, password and options."""
    # The last @, and any ?: what is written wrongly must not show a part of the password either.
    shown = re.sub(r"://.*@", "://***@", plain_uri(uri), flags=re.S)
    return re.sub(r"\?.*", "", shown, flags=re.S)


def guarded(uri: str) -> str:
    """`uri`, as a text that hides itself where it holds a password."""
    plain = plain_uri(uri)
    user_info = re.search(r"://(.*)@", plain, flags=re.S)
    if user_info is None:
        return plain
    password = user_info[1].partition(":")[2] or user_info[1]
    for form in (password, unquote(password)):
        keep_secret(form)
    return Secret(plain)


def redis_fault(uri: str) -> str | None:
    """What is wrong with the URI of a Redis, as the end of a sentence; None if nothing is."""
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


def redis_client(uri: str, what: str, *, connect_seconds: float, answer_seconds: float) -> Redis:
    """A client that connects when it is first used; `what` needs it, as in ``a vector cache``.

    Raises JobError if the library is not installed.
    """
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Disconnected
        from redis.retry import Retry
    except ImportError:
        raise JobError(f"{what} in Redis needs its client: pip install 'vecferry[redis]'") from None
    return Redis.from_url(
        plain_uri(uri),
        socket_connect_timeout=connect_seconds,
        socket_timeout=answer_seconds,
        # Once, for a kept connection that the server has closed; what hangs is not asked again.
        retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
        protocol=2,  # spoken by every server and proxy
        decode_responses=False,
    )
