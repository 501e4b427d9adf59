"""Where a cluster of Elasticsearch or OpenSearch is, and how to log in."""

from __future__ import annotations

from typing import ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from vecferry.settings import SecretText, Settings


class SearchConnection(Settings):
    """A cluster: one address or several, and a login."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})

    endpoint: str | list[str] = Field(description="https://host:9200, or a list of such")
    username: str | None = None
    password: SecretText | None = None
    ca_cert: str | None = Field(default=None, description="path of a CA certificate")

    @field_validator("endpoint")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        given = value.split(",") if isinstance(value, str) else value
        if not given:
            raise ValueError("endpoint is empty: write https://host:9200")
        return [_address(one.strip()) for one in given]

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            given, missing = ("username", "password") if self.username else ("password", "username")
            raise ValueError(f"{given} is given without {missing}: give both")
        if self.ca_cert is not None and not any(h.startswith("https:") for h in self.hosts):
            raise ValueError("caCert is given, and the endpoint is http://, which is not encrypted")
        return self

    @property
    def hosts(self) -> list[str]:
        """The addresses, with their ports."""
        return [_with_port(urlsplit(one)) for one in self.endpoint]

    @property
    def shown(self) -> str:
        """The addresses, as a message names them."""
        return ", ".join(self.endpoint)


def _address(text: str) -> str:
    shown = f"***@{text.rpartition('@')[2]}" if "@" in text else text  # a login may be in there
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise ValueError(f"endpoint {shown!r} is no address: write https://host:9200")
    if parts.username or parts.password:
        raise ValueError("endpoint holds a login: write it as username and password")
    if parts.query or parts.fragment:
        raise ValueError(f"endpoint {shown!r} ends with a query: leave it out")
    return text.rstrip("/")


def _with_port(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}{parts.path}"
