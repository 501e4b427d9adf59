"""Examines this machine, and what a job needs of it: a finding each, with what to do.

Stands apart from `vecferry.pipelines.cli.doctor` because it prints nothing. Services are connected
to, never logged in to: no row is read, no request is paid for.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vecferry.errors import redact, shorten
from vecferry.pipelines.job.clients import clients_of
from vecferry.settings import Connection

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob

SECONDS = 5.0
"""How long each service is waited for."""
LEAST_FREE = 1 << 30
"""With fewer bytes on a disk, caches, rejects and Milvus Lite may fill it."""
MOST_SKEW = 300.0
"""So many seconds a clock may be wrong; services refuse signatures of 900."""
LIBRARIES = ("apache-beam", "pyarrow", "numpy", "pydantic", "pymilvus", "wordllama")
PORTS = {"http": 80, "https": 443}

Grade = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was examined, how it is, and what to do about it."""

    check: str
    status: Grade
    found: str
    repair: str = ""


@dataclass(frozen=True)
class Address:
    """Where a service is; `ca_cert` vouches for its certificate."""

    host: str
    port: int
    scheme: str
    ca_cert: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def examine(resolved: ResolvedJob | None) -> Iterator[Finding]:
    """All findings: of the machine, and of what the job needs."""
    yield from _versions()
    yield _java()
    yield from _disks(resolved)
    yield _proxies()
    if resolved is None:
        return
    yield from _clients(resolved)
    addresses = sorted(set(addresses_of(resolved)), key=str)
    if addresses:
        with ThreadPoolExecutor(max_workers=8) as pool:
            for findings in pool.map(_reach, addresses):
                yield from findings


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(check="python", status="ok", found=f"{python} at {sys.executable}")
    found = []
    for name in ("vecferry", *LIBRARIES):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    yield Finding(check="versions", status="ok", found=", ".join(found))


def _java() -> Finding:
    """Java, which only the job servers of Flink and Spark need."""
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java")
    needed = "install Java 11 or newer if you run jobs on Flink or Spark from here"
    if program is None:
        return Finding(check="java", status="ok", found="not there", repair=needed)
    try:
        done = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as e:
        return Finding(
            check="java", status="warn", found=f"{program} does not run: {e}", repair=needed
        )
    said = (done.stderr or done.stdout).strip().splitlines()
    return Finding(check="java", status="ok", found=f"{said[0] if said else 'runs'} at {program}")


def _disks(resolved: ResolvedJob | None) -> Iterator[Finding]:
    places = {os.getcwd(): "this folder", tempfile.gettempdir(): "temporary files"}
    steps = () if resolved is None else (resolved.reader, resolved.writer)
    for connection in (step.connection for step in steps):
        folder = connection.local_path() if isinstance(connection, Connection) else None
        if folder is not None and os.path.isdir(folder):
            places.setdefault(os.path.abspath(folder), "a data source")
    for path, what in places.items():
        free = shutil.disk_usage(path).free
        writable = os.access(path, os.W_OK) or what == "a data source"
        words = f"{free / 2**30:,.1f} GiB free for {what}, {path}"
        if not writable:
            yield Finding(
                check="disk", status="fail", found=f"{path} can't be written to ({what})",
                repair="run vecferry in a folder of yours, or set TMPDIR",
            )  # fmt: skip
        elif free < LEAST_FREE:
            yield Finding(check="disk", status="warn", found=words, repair="make room there")
        else:
            yield Finding(check="disk", status="ok", found=words)


def _proxies() -> Finding:
    """The proxies of the environment, without their passwords."""
    proxies = getproxies()
    shown = [
        f"{scheme} by {_without_login(url)}"
        for scheme, url in sorted(proxies.items())
        if scheme != "no"
    ]
    if not shown:
        return Finding(check="proxies", status="ok", found="none")
    spared = f"; none for {proxies['no']}" if proxies.get("no") else ""
    return Finding(check="proxies", status="ok", found=", ".join(shown) + spared)


def _without_login(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _clients(resolved: ResolvedJob) -> Iterator[Finding]:
    """The client libraries of the job's steps and data sources."""
    needed = {client for _, client in clients_of(resolved)}
    for client in sorted(needed, key=lambda c: (c.install, c.module)):
        there = client.is_there
        yield Finding(
            check="extra",
            status="ok" if there else "fail",
            found=f"{client.install} ({client.module}) is {'there' if there else 'missing'}",
            repair="" if there else f"pip install '{client.install}'",
        )


def addresses_of(resolved: ResolvedJob) -> Iterator[Address]:
    """Where the services of a job are, as far as its settings name them."""
    for step in resolved.steps:
        for url in step.settings.calls():
            yield from _parsed(url, None)
        if step.connection is not None:
            yield from _addresses_in(step.connection)


def _addresses_in(connection: Connection) -> Iterator[Address]:
    """What looks like an address in the fields of a connection; secrets are passed over."""
    fields = dict(connection)
    ca_cert = fields.get("ca_cert")
    host, port = fields.get("host"), fields.get("port")
    if isinstance(host, str) and isinstance(port, int):
        yield Address(host, port, "tcp", ca_cert)
    for value in fields.values():
        texts = value.values() if isinstance(value, dict) else value
        for text in (texts,) if isinstance(texts, str) else texts if _is_many(texts) else ():
            if type(text) is str:  # not a secret
                yield from _parsed(text, ca_cert)


def _is_many(value: object) -> bool:
    return isinstance(value, Iterable)


def _parsed(url: str, ca_cert: str | None) -> Iterator[Address]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "tcp", "redis", "rediss") and parts.hostname:
            port = parts.port or PORTS.get(parts.scheme, 6379)
            yield Address(parts.hostname, port, parts.scheme, ca_cert)
    except ValueError:  # a wrong port, which the job's check has told
        return


def _reach(address: Address) -> list[Finding]:
    """DNS, connection, TLS and clock of one service, as far as each step leads to the next."""
    if address.scheme in PORTS and _proxy_of(address) is not None:
        return [
            Finding(check="connect", status="ok", found=f"{address}: a proxy is asked; not tried")
        ]
    steps: list[tuple[str, Callable[[Address], str], str]] = [
        ("dns", _resolve, "correct the name of the host, or the DNS of this machine"),
        ("connect", _connect, "see whether the service runs, and whether a firewall is between"),
    ]
    if address.scheme in ("https", "rediss"):
        steps.append(("tls", _handshake, "name the authority that signed it as caCert"))
    found: list[Finding] = []
    for check, attempt, repair in steps:
        try:
            words = attempt(address)
        except (OSError, ValueError) as e:
            why = shorten(redact(str(e)) or type(e).__name__, 200)
            return [
                *found,
                Finding(check=check, status="fail", found=f"{address}: {why}", repair=repair),
            ]
        found.append(Finding(check=check, status="ok", found=f"{address}: {words}"))
    return [*found, *_clock(address)] if address.scheme in PORTS else found


def _proxy_of(address: Address) -> str | None:
    proxies = getproxies()
    if proxy_bypass(address.host):
        return None
    return proxies.get(address.scheme) or proxies.get("all")


def _resolve(address: Address) -> str:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))


def _connect(address: Address) -> str:
    began = time.monotonic()
    with socket.create_connection((address.host, address.port), SECONDS):
        return f"answers within {(time.monotonic() - began) * 1000:.0f} ms"


def _handshake(address: Address) -> str:
    context = ssl.create_default_context(cafile=address.ca_cert)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection((address.host, address.port), SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=address.host) as secured,
    ):
        ends = dict(secured.getpeercert() or {}).get("notAfter", "")
        return f"{secured.version()}, its certificate is trusted until {ends}"


def _clock(address: Address) -> Iterable[Finding]:
    """How far this machine's clock is from that of a service; nothing if the service tells none."""
    import urllib3

    pool = urllib3.PoolManager(
        num_pools=1, retries=False, timeout=SECONDS, ca_certs=address.ca_cert
    )
    try:
        answer = pool.request("HEAD", f"{address.scheme}://{address}/", redirect=False)
        theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (urllib3.exceptions.HTTPError, KeyError, ValueError, TypeError):
        return []
    finally:
        pool.clear()
    skew = abs(time.time() - theirs)
    words = f"{skew:,.0f} s from that of {address}"
    if skew <= MOST_SKEW:
        return [Finding(check="clock", status="ok", found=words)]
    repair = "set the clock of this machine: services refuse requests signed at a wrong time"
    return [Finding(check="clock", status="fail", found=words, repair=repair)]


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings for machines."""
    return [
        {"check": f.check, "status": f.status, "found": f.found, "repair": f.repair}
        for f in findings
    ]
