"""Secrets of a job: how they are shown, pickled, and left to workers to fill.

Whoever sees a pipeline can read what is pickled into the pipeline. With ``--secrets worker`` the
graph is built of `referenced` settings. Each text in them that was filled in is pickled as it was
written, such as ``${TOKEN}``. Any of the texts may hold a secret, as headers and conditions do. The
process that unpickles the text fills it from its own environment.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer

from vecferry.errors import LEAST_IN_ROWS, JobError, VecferryError, keep_secret
from vecferry.references import EITHER, REFERENCE, NothingThereError, look_up
from vecferry.references import PLACEHOLDER as PLACEHOLDER
from vecferry.run.scope import run_scope

T = TypeVar("T")

SECRET_NAME = re.compile(
    r"(?i)key|passw|pwd|(^|[_.-])(pw|pass)|token|secret|credential|accessid|auth|signature"
)
"""A name whose value is likely to be a secret."""

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
            return secret_of, (self.reveal(),)
        return _from_elsewhere, self.reference

    def reveal(self) -> str:
        """The text itself, as a plain `str`."""
        return str.__str__(self)


class Filled(str):
    """A text of a field that is not secret, pickled as it was written."""

    reference: tuple[str, str]

    def __reduce__(self) -> Any:
        return _text_from_elsewhere, self.reference


@dataclass(frozen=True)
class Written:
    """What texts of a job were written as.

    Attributes:
      texts: of each text that was filled in, what was written in its place.
      given: values of the command line by name; they are open, unless a secret is made of them.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def closed(self, secrets: list[str]) -> Written:
        """The same, where what `secrets` are made of is not open."""
        used = {name for s in secrets for name, _ in PLACEHOLDER.findall(self.texts.get(s, ""))}
        given = {
            name: value
            for name, value in self.given.items()
            if name not in used and not SECRET_NAME.search(name)
        }
        return Written(self.texts, given)

    def reference(self, text: str) -> str | None:
        """What stands for a text on its way to workers; None if the text may be pickled."""
        if text in self.texts:
            return self._opened(self.texts[text])
        found = text
        for filled in sorted(self.texts, key=len, reverse=True):
            if len(filled) >= LEAST_IN_ROWS and filled in found:
                found = found.replace(filled, self._opened(self.texts[filled]) or filled)
        return found if found != text else None

    def _opened(self, written: str) -> str | None:
        partly = PLACEHOLDER.sub(lambda m: self.given.get(m[1], m[0]), written)
        return partly if EITHER.search(partly) else None


def secret_of(value: str) -> Secret:
    """A text as a secret, which is hidden in all that this process shows from now on."""
    keep_secret(str.__str__(value))
    return Secret(value)


def _text_from_elsewhere(written: str, run: str) -> Filled:
    return _filled_text(_filled(written, run), written, run)


def _filled_text(text: str, written: str, run: str) -> Filled:
    found = Filled(text)
    found.reference = (written, run)
    return found


def _from_elsewhere(written: str, run: str) -> Secret:
    secret = secret_of(_filled(written, run))
    secret.reference = (written, run)
    return secret


SecretText = Annotated[
    str,
    AfterValidator(secret_of),
    PlainSerializer(lambda s: "***", return_type=str),
    Field(json_schema_extra={"secret": True, "writeOnly": True}),
]
"""A field that is kept out of logs, errors, reports and display data; at run time a `Secret`."""


def secrets_in(value: object) -> list[str]:
    """The secrets in settings, or in what they hold, as plain texts."""
    return [text.reveal() for text in _texts_in(value) if isinstance(text, Secret)]


def secrets_at(settings: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    """The secrets that settings hold under names of secrets: where, and the plain text."""
    for name, about in type(settings).model_fields.items():
        where = f"{path}.{about.alias or name}"
        value = getattr(settings, name)
        for suffix, part in _listed(value):
            if isinstance(part, BaseModel):
                yield from secrets_at(part, where + suffix)
            elif isinstance(part, Secret) and SECRET_NAME.search(name):
                yield where + suffix, part.reveal()


def _listed(value: object) -> list[tuple[str, object]]:
    if isinstance(value, list | tuple):
        return [(f"[{i}]", part) for i, part in enumerate(value)]
    return [("", value)]


def as_variable(path: str) -> str:
    """The name of an environment variable for the key at a path: ``apiKey`` gives ``API_KEY``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.rpartition(".")[2]).upper()


def texts_in(value: object) -> list[str]:
    """All texts in settings, or in what they hold; secrets are revealed."""
    return [text.reveal() if isinstance(text, Secret) else text for text in _texts_in(value)]


def _texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for part in _parts(value) for text in _texts_in(part)]


def _parts(value: object) -> list[object]:
    """What settings, dataclasses and collections hold."""
    if isinstance(value, BaseModel):
        return [*value.__dict__.values(), *(value.model_extra or {}).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, f.name) for f in dataclasses.fields(value)]
    if isinstance(value, dict):
        return list(value.items())
    return list(value) if isinstance(value, list | tuple | set | frozenset) else []


def referenced(value: T, written: Written, run: str) -> T:
    """Settings, or what they hold, whose filled texts are pickled as `written` tells.

    In this process they are filled as they are, until `run` ends. Raises JobError for a secret
    that was not filled in from outside.
    """
    return _referenced(value, written, run)  # type: ignore[no-any-return]


def _referenced(value: Any, written: Written, run: str) -> Any:
    def again(part: Any) -> Any:
        return _referenced(part, written, run)

    if isinstance(value, str):
        return _text_referenced(value, written, run)
    if isinstance(value, BaseModel):
        found = value.model_copy()
        found.__dict__.update({name: again(part) for name, part in value.__dict__.items()})
        if value.model_extra:
            object.__setattr__(found, "__pydantic_extra__", again(value.model_extra))
        return found
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass_referenced(value, again)
    if isinstance(value, dict):
        return type(value)((again(name), again(part)) for name, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(map(again, value))
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(map(again, value))
    return value


def _dataclass_referenced(value: Any, again: Callable[[Any], Any]) -> Any:
    changed = {}
    for part in dataclasses.fields(value):
        before = getattr(value, part.name)
        after = again(before)
        if after is not before:
            changed[part.name] = after
    if not changed:
        return value
    found = copy.copy(value)
    for name, after in changed.items():
        object.__setattr__(found, name, after)
    return found


def _text_referenced(value: str, written: Written, run: str) -> str:
    if not isinstance(value, Secret):
        reference = written.reference(value)
        if reference is None:
            return value
        _known(run)[reference] = value
        return _filled_text(value, reference, run)
    text = value.reveal()
    if text not in written.texts:
        raise JobError(WRITTEN_OUT)
    reference = written.texts[text]
    _known(run)[reference] = text
    found = Secret(text)
    found.reference = (reference, run)
    return found


def _known(run: str) -> dict[str, str]:
    """Of the secrets of a run that this process has filled: what was written -> the secret."""
    return run_scope(run).get("secrets", dict)


def _filled(written: str, run: str) -> str:
    """The secret itself: as this process filled it, else from the environment; else JobError."""
    known = _known(run)
    if written in known:
        return known[written]

    def value(match: re.Match[str]) -> str:
        kind, what, instead, name, default = match.groups()
        if kind is not None:
            return _looked_up(kind, what, instead)
        found = os.environ.get(name, default)
        if found is None:
            raise JobError(
                f"--secrets worker: this worker's environment has no {name}; set it where the "
                "workers start"
            )
        return str(found)

    return EITHER.sub(value, written)


def _looked_up(kind: str, what: str, default: str | None) -> str:
    try:
        return look_up(kind, what)
    except NothingThereError as e:
        if default is not None:
            return default
        raise JobError(f"--secrets worker: ${{{kind}:{what}}} of this worker: {e}") from None
    except VecferryError as e:
        raise JobError(f"--secrets worker: ${{{kind}:{what}}} of this worker: {e}") from None


def names_of(texts: list[str], secrets: list[str], written: Written) -> list[str]:
    """The variables that workers must have to fill `texts`, some of which are `secrets`.

    Raises JobError if one of the secrets was not filled in from outside.
    """
    if any(secret not in written.texts for secret in secrets):
        raise JobError(WRITTEN_OUT)
    wanted = [written.texts[secret] for secret in secrets]
    closed = written.closed(secrets)
    wanted += [found for text in texts if (found := closed.reference(text)) is not None]
    pairs = [pair for text in wanted for pair in PLACEHOLDER.findall(text)]
    references = [match for text in wanted for match in REFERENCE.finditer(text)]
    pairs += [(match[2], match[3]) for match in references if match[1] == "env"]
    return sorted({name for name, default in pairs if not default})
