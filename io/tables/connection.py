"""Where a database is, and how a connection to the database is kept private."""

from __future__ import annotations

import functools
import os
import ssl
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from vecferry.errors import JobError
from vecferry.fields import in_form
from vecferry.settings import Connection, SecretText, pick

TLS_MODES = ("off", "prefer", "require", "verify")

_IN_JDBC = {"user": "username", "password": "password"}
_TLS_IN_JDBC = {
    "disable": "off", "allow": "prefer", "prefer": "prefer", "require": "require",
    "verify-ca": "verify", "verify-full": "verify",  # PostgreSQL's sslmode
    "disabled": "off", "preferred": "prefer", "required": "require",
    "verify_ca": "verify", "verify_identity": "verify",  # MySQL's sslMode
}  # fmt: skip


class TableConnection(Connection):
    """A database on a server, for one user; `jdbcUrl` may say where in place of the rest.

    `tls`: off, prefer (where the server offers it, unverified), require (unverified) or verify (by
    `caCert`, else by the authorities of the system). Default: verify with a `caCert`, else prefer.
    """

    product: ClassVar[str]
    """What messages call the server: ``MySQL``."""
    scheme: ClassVar[str]
    """The name in the server's JDBC URLs."""
    default_port: ClassVar[int]

    jdbc_url: SecretText | None = Field(
        default=None,
        description="the address in place of `host`, `port` and `database`, with the login and "
        "the driver's TLS options",
        examples=["jdbc:mysql://localhost:3306/shop"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="made of the parts"),
    )
    host: str = Field(
        min_length=1,
        description="the server's name or address",
        examples=["localhost"],
        json_schema_extra=in_form("connection", otherwise="from `jdbcUrl`"),
    )
    port: int = Field(
        ge=1,
        le=65535,
        description="the server's port",
        examples=[5432],
        json_schema_extra=in_form("connection", otherwise="the server's usual port"),
    )
    username: str = Field(
        min_length=1,
        description="a user who may do what the job does: `SELECT` to read",
        examples=["reader"],
        json_schema_extra=in_form("login", otherwise="from `jdbcUrl`"),
    )
    password: SecretText = Field(
        default="",
        description="the user's password",
        examples=["${DB_PASSWORD}"],
        json_schema_extra=in_form("login"),
    )
    database: str = Field(
        min_length=1,
        description="the database",
        examples=["shop"],
        json_schema_extra=in_form("connection", otherwise="from `jdbcUrl`"),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file: the authority that signed the server's certificate, in PEM",
        examples=["/etc/ssl/db.pem"],
        json_schema_extra=in_form("connection", advanced=True),
    )
    tls: Literal["off", "prefer", "require", "verify"] | None = Field(
        default=None,
        title="TLS",
        description="whether the connection is encrypted, and the server's certificate checked",
        json_schema_extra=in_form(
            "connection", advanced=True, otherwise="`verify` with `caCert`, else `prefer`"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _from_jdbc(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = dict(given)
        url = given.pop("jdbcUrl", None) or given.pop("jdbc_url", None)
        if url:
            given = {**_parts_of(str(url), cls.scheme), **given}
        given.setdefault("port", cls.default_port)
        return given

    @field_validator("tls", mode="before")
    @classmethod
    def _known_mode(cls, value: Any) -> Any:
        return value if value is None else pick(value, TLS_MODES, "tls")

    @property
    def tls_mode(self) -> str:
        """How the connection is kept private: one of `TLS_MODES`."""
        return self.tls or ("verify" if self.ca_cert else "prefer")

    @property
    def place(self) -> str:
        """The server's address, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def where(self) -> str:
        """The database, for messages: ``MySQL at host:port/database``."""
        return f"{self.product} at {self.place}/{self.database}"

    @property
    def trust(self) -> str:
        """What to do about a certificate that is not trusted."""
        if self.ca_cert:
            return (
                f"caCert ({self.ca_cert}) must name the authority that signed it, and host must "
                "be a name in it"
            )
        return "name the file of the authority that signed it as caCert"


def _parts_of(url: str, scheme: str) -> dict[str, Any]:
    """Host, port, database and user of ``jdbc:mysql://host:port/database?user=…``."""
    begin = f"jdbc:{scheme}://"
    if not url.startswith(begin):
        raise ValueError(f"jdbcUrl must begin with {begin}; write {begin}HOST:PORT/DATABASE")
    parts = urlsplit(url.removeprefix("jdbc:"))
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("jdbcUrl names several hosts: write the one to read from")
    if "#" in url:
        raise ValueError("jdbcUrl holds a #: write it as %23 in a password")
    try:
        port = parts.port
    except ValueError as e:
        raise ValueError("jdbcUrl has a wrong port; write a number from 1 to 65535") from e
    query = parse_qsl(parts.query, keep_blank_values=True)
    found: dict[str, Any] = {
        "username": unquote(parts.username or ""), "password": unquote(parts.password or ""),
        **{_IN_JDBC[k]: v for k, v in query if k in _IN_JDBC},
        "tls": _tls_of({k.lower(): v.lower() for k, v in query}),
        "host": parts.hostname, "port": port, "database": unquote(parts.path.strip("/")),
    }  # fmt: skip
    return {k: v for k, v in found.items() if v}


def _tls_of(query: dict[str, str]) -> str | None:
    """What the URL of a driver, its keys and values in small letters, says of TLS."""
    if mode := query.get("sslmode"):
        return _TLS_IN_JDBC.get(mode, mode)
    said = {k: v in ("true", "") for k, v in query.items()}
    if query.get("usessl") == "false":
        return "off"
    if said.get("ssl") or said.get("verifyservercertificate"):
        return "verify"
    return "require" if said.get("requiressl") else None


def tls_context(given: TableConnection) -> ssl.SSLContext:
    """For a connection that is encrypted, and verified where the data source says so.

    Connections of one kind share it, until the file of the authority changes: to read all
    authorities of the system takes longer than to connect.
    """
    try:
        changed = 0 if given.ca_cert is None else os.stat(given.ca_cert).st_mtime_ns
        return _context(given.ca_cert, changed, given.tls_mode == "verify")
    except OSError as e:
        raise JobError(
            f"caCert {given.ca_cert!r} can't be read: {e}; name a file of certificates in PEM that "
            "this user may read"
        ) from e


@functools.lru_cache(maxsize=16)
def _context(ca_cert: str | None, changed: int, verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_cert)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a private authority may be an old one
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
