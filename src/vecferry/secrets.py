"""Secrets of a job: how they are shown, pickled, and left to workers to fill.

Whoever sees a pipeline can read what is pickled into the pipeline. With ``--secrets worker`` the
graph is built of `referenced` settings. Each secret in them is pickled as its placeholder, such as
``${TOKEN}``. The process that unpickles the secret fills it from its own environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer

from vecferry.errors import JobError, keep_secret
from vecferry.run.scope import run_scope

T = TypeVar("T")

PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][\w.-]*)(?::-([^}]*))?\}")

WRITTEN_OUT = (
    "--secrets worker: a secret is written out in the job or its data sources; write ${NAME} in "
    "its place and set NAME for each worker"
)


class Secret(str):
    """A text that shows itself only as ``***``; `reveal` gives it.

    A secret with a `reference` is pickled as the text that was written in its place, and the run
    that it is for.
    """

    reference: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> Any:
        if self.reference is None:
            return _secret, (self.reveal(),)
        return _from_elsewhere, self.reference

    def reveal(self) -> str:
        """The text itself, as a plain `str`."""
        return str.__str__(self)


def _secret(value: str) -> Secret:
    keep_secret(str.__str__(value))
    return Secret(value)


def _from_elsewhere(written: str, run: str) -> Secret:
    secret = _secret(_filled(written, run))
    secret.reference = (written, run)
    return secret


SecretText = Annotated[
    str,
    AfterValidator(_secret),
    PlainSerializer(lambda s: "***", return_type=str),
    Field(json_schema_extra={"secret": True, "writeOnly": True}),
]
"""A field that is kept out of logs, errors, reports and display data; at run time a `Secret`."""


def secrets_in(value: object) -> list[str]:
    """The secrets in settings, or in what they hold, as plain texts."""
    if isinstance(value, Secret):
        return [value.reveal()]
    if isinstance(value, BaseModel):
        value = list(value.__dict__.values())
    if isinstance(value, list | tuple):
        return [secret for part in value for secret in secrets_in(part)]
    return []


def referenced(value: T, written: Mapping[str, str], run: str) -> T:
    """Settings, or what they hold, whose secrets are pickled as `written` tells.

    In this process they are filled as they are, until `run` ends. Raises JobError for a secret
    that was not filled in from outside.
    """
    found: Any = value
    if isinstance(value, Secret):
        text = value.reveal()
        if text not in written:
            raise JobError(WRITTEN_OUT)
        _known(run)[written[text]] = text
        found = Secret(text)
        found.reference = (written[text], run)
    elif isinstance(value, BaseModel):
        found = value.model_copy()
        found.__dict__.update(
            {name: referenced(part, written, run) for name, part in value.__dict__.items()}
        )
    elif isinstance(value, list | tuple):
        found = type(value)(referenced(part, written, run) for part in value)
    return found  # type: ignore[no-any-return]


def _known(run: str) -> dict[str, str]:
    """Of the secrets of a run that this process has filled: what was written -> the secret."""
    return run_scope(run).get("secrets", dict)


def _filled(written: str, run: str) -> str:
    """The secret itself: as this process filled it, else from the environment; else JobError."""
    known = _known(run)
    if written in known:
        return known[written]

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            raise JobError(f"--secrets worker: this worker's environment has no {name}")
        return str(found)

    return PLACEHOLDER.sub(value, written)


def names_of(secrets: list[str], written: Mapping[str, str]) -> list[str]:
    """The variables that workers must have to fill `secrets`, which were written with them.

    Raises JobError if one of the secrets was not filled in from outside.
    """
    if any(secret not in written for secret in secrets):
        raise JobError(WRITTEN_OUT)
    found = [PLACEHOLDER.findall(written[secret]) for secret in secrets]
    return sorted({name for pairs in found for name, default in pairs if not default})
