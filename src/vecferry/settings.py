"""The base of everything that a job or a data source may say.

A settings class is frozen and takes numbers as strings, as DataWorks writes them. An empty text in
place of a number or a flag, and null in place of what can't be null, mean that nothing is given. It
keeps unknown keys aside, so that a job can warn of them. Names are camelCase in a job and
snake_case in Python; both are accepted.
"""

from __future__ import annotations

import functools
import re
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticKnownError

from vecferry.errors import LEAST_IN_ROWS, keep_secret, near
from vecferry.fields import SourceType, title_of
from vecferry.kinds import Client
from vecferry.numbers import real_number, whole_number
from vecferry.secrets import SECRET_NAME
from vecferry.secrets import Secret as Secret
from vecferry.secrets import SecretText as SecretText

if TYPE_CHECKING:
    from vecferry.money import Price


class Settings(BaseModel):
    """Frozen settings; unknown keys are kept in ``model_extra`` for a warning."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        field_title_generator=title_of,
    )

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Keys of the vendor that mean nothing here; they give no warning."""
    passes_on: ClassVar[bool] = False
    """Whether unknown keys go to the store unchanged."""
    variables: ClassVar[dict[str, str]] = {}
    """By field, the environment variable in which the tools of the service look for a key."""

    @model_validator(mode="before")
    @classmethod
    def _as_given(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        forms = _forms(cls)
        kept = {}
        for key, value in data.items():
            form = forms.get(key)
            if form is None:
                kept[key] = _unknown(key, value)
            elif not form.is_nothing(value):
                kept[key] = _plain(value) if form.open else value
        return kept

    @field_validator("*", mode="before")
    @classmethod
    def _one_reading(cls, value: Any, info: ValidationInfo) -> Any:
        """A number that is given as a text, read as every number; see `vecferry.numbers`."""
        form = _forms(cls)[info.field_name or ""]
        if not isinstance(value, str) or form.number is None:
            return value
        try:
            return whole_number(value) if form.number is int else real_number(value)
        except ValueError:
            # As pydantic has it, so that a number and a text that is not one are told alike.
            raise PydanticKnownError(
                "int_parsing" if form.number is int else "float_parsing"
            ) from None


@dataclass(frozen=True)
class _Form:
    """What a field takes beside its own values, and which kind of number it takes only."""

    null: bool
    empty: bool
    open: bool
    number: type[int] | type[float] | None

    def is_nothing(self, value: object) -> bool:
        """Whether a value means that the field is not given."""
        if value is None:
            return not self.null
        return isinstance(value, str) and not self.empty and not value.strip()


@functools.cache
def _forms(cls: type[BaseModel]) -> dict[str, _Form]:
    """The form of each field, by both of its names."""
    forms = {}
    for name, field in cls.model_fields.items():
        kinds = set(_kinds(field.annotation))
        numbers = all(kind in (int, float, bool, type(None), "choice") for kind in kinds)
        form = _Form(
            null=bool(kinds & {type(None), Any, object}),
            empty=not numbers,
            open=bool(kinds & {Any, object, "open"}),
            number=_number(kinds),
        )
        forms[name] = form
        if field.alias:
            forms[field.alias] = form
    return forms


def _number(kinds: set[Any]) -> type[int] | type[float] | None:
    """The kind of number that a field takes; None where it takes something else as well."""
    if not kinds <= {int, float, type(None)}:
        return None
    return float if float in kinds else int if int in kinds else None


def _kinds(annotation: Any) -> list[Any]:
    """The types that an annotation allows; ``choice`` of Literal, ``open`` of objects of anything.

    A Literal that has an empty text takes texts.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin is Union or origin is types.UnionType:
        return [kind for argument in arguments for kind in _kinds(argument)]
    if origin is Literal:
        return [str] if "" in arguments else ["choice"]
    if origin is dict and arguments[1:] and arguments[1] in (Any, object):
        return [dict, "open"]
    return [origin or annotation]


def _unknown(key: object, value: Any) -> Any:
    """A value under a key that no field has; a key that is misspelt may be that of a secret."""
    texts = isinstance(key, str) and isinstance(value, str) and SECRET_NAME.search(key)
    if texts and len(value) >= LEAST_IN_ROWS:
        keep_secret(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    """`value` with plain numbers in place of numbers that know how they were written."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    for kind in (float, int):
        if isinstance(value, kind) and type(value) not in (kind, bool):
            return kind(value)
    return value


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What decides the vectors of a column; vectors of different makers cannot be compared."""

    provider: str
    model: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.model} of {self.provider}, {self.dimension} dimensions"


class Connection(Settings):
    """How steps reach a service or a folder; `type` names the type of data source."""

    type: SourceType[str] = ""

    def local_path(self) -> str | None:
        """The folder of this machine that the data source is; None of a service."""
        return None

    def at(self, url: str) -> Self | None:
        """This data source at the folder that a URL names; None if it does not reach that folder.

        The folder that the data source has of its own does not count: only its keys are used.
        """
        return None

    def paths(self) -> dict[str, str]:
        """By field, the files and folders of this machine that the data source names."""
        certificates = self.__dict__.get("ca_cert")
        return {"ca_cert": certificates} if certificates else {}

    def with_paths(self, paths: Mapping[str, str]) -> Self:
        """The data source with other `paths`, by the same fields."""
        return self.model_copy(update=dict(paths))

    def clients(self) -> list[Client]:
        """The libraries that the data source needs besides the library of its type."""
        return []

    def unshareable(self) -> str | None:
        """Why other processes can't use the data source, with the way out; None if they can."""
        return None


class StepSettings(Settings):
    """What a step may say in a job, and what a job asks of the step; defaults are of a plain step.

    Columns are given by name with the dimension of their vectors, or None if they hold no vectors.
    """

    vector_types: ClassVar[tuple[str, ...]] = ()
    """The types of a writer's columns that hold vectors, and need a dimension."""

    @property
    def needs_datasource(self) -> bool:
        """Whether the step must name a `datasource`; False if the step brings its connection."""
        return True

    @property
    def source_name(self) -> str | None:
        """The data source's name, if it stands deeper in the parameters than a step has it."""
        return None

    @property
    def endless(self) -> bool:
        """Whether the source goes on for ever."""
        return False

    @property
    def follows(self) -> bool:
        """Whether a reader's logic is a `ChangeSource`, whose positions are kept."""
        return False

    @property
    def tells_keys(self) -> bool:
        """Whether a reader's logic has `keys`, as each source that is followed has."""
        return self.follows

    @property
    def orders_documents(self) -> bool:
        """Whether a reader that is followed gives each document at most once in a round.

        Then rounds, which come one after the other, order the changes of a document. So a target
        need not keep versions to keep documents whole.
        """
        return False

    @property
    def one_row_each(self) -> bool:
        """Whether a reader that gives documents may give each of them as one row."""
        return True

    @property
    def poll_seconds(self) -> float:
        """How often a source that is followed is asked for news, unless the job says."""
        return 10.0

    @property
    def takes_other_columns(self) -> bool:
        """Whether a writer also writes columns that it does not name."""
        return False

    def inputs(self) -> list[str]:
        """The columns that the step needs."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns that the step gives, or that a writer takes; None if they are unknown."""
        return {}

    def billed(self) -> Price | None:
        """What the service behind a step bills, as far as the job says."""
        return None

    def takes_away(self) -> list[str]:
        """The columns that a transformer takes and does not hand on."""
        return []

    def part_columns(self) -> list[str]:
        """The columns that tell apart the rows which a transformer makes of one row.

        Or which a reader makes of one document. Empty if the step makes at most one row of a row.
        """
        return []

    @property
    def keeps_versions(self) -> bool:
        """Whether a writer's target keeps the version of each row."""
        return False

    def document_key(self) -> list[str]:
        """The columns that name a document, of a step that cuts it or a writer that keeps it whole.

        Or of a reader whose changes are of whole documents. Empty if the step knows no documents.
        """
        return []

    def document_fields(self) -> list[str]:
        """The fields of a writer's target that hold the columns of `document_key`."""
        return self.document_key()

    def decides_by(self) -> list[str]:
        """The columns that decide whether a transformer leaves a row out."""
        return []

    def not_followed(self) -> str | None:
        """Why a transformer can't take changes of a source that is followed, with the way out.

        None if the transformer can.
        """
        return None

    def made_of(self) -> dict[str, list[str]]:
        """Column that the step gives -> the columns that its value is made of."""
        return {name: self.inputs() for name in self.outputs() or {}}

    def key_columns(self) -> list[str] | None:
        """The columns that make a writer's id and routing; None if only the target knows them.

        An empty list says that the rows have no id, so nothing can be replaced or deleted.
        """
        return None

    def key_advice(self, columns: Sequence[str]) -> str:
        """What to change in a writer for its id to be made of these columns."""
        return (
            "name them all as its key, or let the source have a column that joins them, and make "
            "that the key"
        )

    def column_types(self) -> dict[str, str]:
        """The type of each column that the step gives, as far as the settings tell.

        Types have the names of a job, such as ``long``, and ``vector``.
        """
        given = (self.outputs() or {}).items()
        return {name: "vector" for name, dimension in given if dimension is not None}

    def makers(self) -> dict[str, Maker]:
        """What makes the vectors of each column that the step fills with vectors."""
        return {}

    def calls(self) -> list[str]:
        """The URLs of services that the step sends rows to; `setting.trustedEndpoints` binds them.

        The URL of a data source is not among them.
        """
        return []

    def key_variable(self) -> str | None:
        """The environment variable that usually holds the key of the service; None if none does."""
        return None

    def unshareable(self) -> str | None:
        """Why other processes can't carry out the step, with the way out; None if they can."""
        return None

    def computes_from(self) -> int | None:
        """From how many bytes of source on more processes pay, since the step computes by itself.

        None of a step that waits for servers, or does little.
        """
        return None

    def clients(self) -> list[Client]:
        """The libraries that these settings need besides the libraries of the step's kind."""
        return []

    def clients_here(self) -> list[Client]:
        """The libraries that the environment of this process asks for, such as its proxies."""
        return []

    def with_deadline(self, seconds: float) -> Self:
        """The settings of a step that does not wait long for a service, because a person waits."""
        return self

    def moved(self, name: str, *, switch: bool) -> dict[str, Any]:
        """The parameters to change so that the target is called `name` (`--into`).

        The first parameter names the target. With `switch`, an alias must name the target as well.
        Raises ValueError if the step cannot do so.
        """
        raise ValueError(
            "--into: this step has no target to name anew; leave the option out, and change the "
            "job itself"
        )


def pick(value: object, choices: tuple[str, ...], what: str) -> str:
    """The choice that `value` names, in any case; raises ValueError with the nearest choice."""
    folded = {c.casefold(): c for c in choices}
    found = folded.get(str(value).strip().casefold())
    if found is None:
        known = ", ".join(choices)
        raise ValueError(
            f"{value!r} is not a value of {what}{near(str(value), choices)}; use {known}"
        )
    return found


def require_pattern(text: str) -> None:
    """Raises ValueError if a text is not a regular expression, or Python warns of what it means."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as e:
        why = f"{e}; put a backslash before a bracket" if isinstance(e, Warning) else e
        raise ValueError(
            f"{text!r} is not a regular expression: {str(why)[:1].lower()}{str(why)[1:]}"
        ) from None
