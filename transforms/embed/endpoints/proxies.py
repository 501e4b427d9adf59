"""Which proxy the environment names for an address, and whether it names none."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote
from urllib.request import getproxies

from urllib3.exceptions import LocationValueError
from urllib3.util import Url, parse_url

from vecferry.errors import JobError, keep_secret
from vecferry.numbers import digits_of

SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")
PORTS = {"http": 80, "https": 443}


def proxy_for(url: Url) -> Url | None:
    """The proxy for requests to `url`, with its port; None if the environment names none.

    ``HTTP_PROXY`` or ``HTTPS_PROXY`` goes before ``ALL_PROXY``. A proxy without a scheme speaks
    plain HTTP. Its password is kept out of messages. Raises JobError for one that can't be used.
    """
    named = getproxies()
    variable = url.scheme if url.scheme in named else "all"
    value = named.get(variable or "", "")
    if not value or _needs_none(url, named.get("no", "")):
        return None
    name = f"{variable}_proxy".upper()
    try:
        proxy = parse_url(value if "://" in value else f"http://{value}")
    except LocationValueError:
        raise JobError(f"{name} is not an address: write http://HOST:PORT, or unset it") from None
    if not proxy.host or proxy.scheme not in SCHEMES:
        raise JobError(
            f"{name} names a proxy of the kind {proxy.scheme or ''!r}, which is not known: use one "
            f"of {', '.join(SCHEMES)}, or unset it"
        )
    _keep_password(proxy)
    port = proxy.port or PORTS.get(proxy.scheme, 1080)
    return proxy._replace(port=port)


def is_by_socks(url: str) -> bool:
    """Whether requests to `url` go through a SOCKS proxy; a wrong one is told by `proxy_for`."""
    try:
        proxy = proxy_for(parse_url(url))
    except (JobError, LocationValueError):
        return False
    return proxy is not None and (proxy.scheme or "").startswith("socks")


def credentials(proxy: Url) -> tuple[str, str] | None:
    """User and password of a proxy, as they are meant; None if it has none."""
    if not proxy.auth:
        return None
    user, _, password = proxy.auth.partition(":")
    return unquote(user), unquote(password)


def _keep_password(proxy: Url) -> None:
    if pair := credentials(proxy):
        for whole in (proxy.auth or "", ":".join(pair)):
            keep_secret(whole)
            keep_secret(whole.partition(":")[2])


def _needs_none(url: Url, listed: str) -> bool:
    """Whether ``NO_PROXY`` holds the host: by name, domain, address or network, with a port."""
    host = (url.host or "").strip("[]").rstrip(".").lower()
    port = url.port or PORTS.get(url.scheme or "", 0)
    return any(_holds(entry, host, port) for entry in listed.lower().replace(",", " ").split())


def _holds(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, wanted = entry.rpartition(":")
    number = digits_of(wanted) if colon else None
    if number is not None and (":" not in name or name.endswith("]")):
        if number != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        entry = entry.removeprefix("*").strip(".")
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
