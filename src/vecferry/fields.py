"""What a person is told of the fields of settings: words, groups, examples, choices.

A field of settings says these things in its `Field`, by `in_form`. `described` reads them for the
JSON Schemas, for forms, and for the tables of the pages.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, BaseModel, Field, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

T = TypeVar("T")

Group = Literal[
    "connection", "login", "source", "target", "format", "columns", "model", "input", "text",
    "images", "vectors", "creation", "write", "follow", "requests", "cache", "speed", "limits",
    "job",
]  # fmt: skip
"""What a field is about; a form shows the groups in this order."""

GROUPS: tuple[str, ...] = get_args(Group)

_WORDS = {
    "ca": "CA", "csv": "CSV", "fs": "file system", "id": "ID", "jdbc": "JDBC", "json": "JSON",
    "sql": "SQL", "tls": "TLS", "uri": "URI", "url": "URL",
}  # fmt: skip
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")


def in_form(
    group: Group,
    *,
    advanced: bool = False,
    choices: tuple[str, ...] = (),
    when: tuple[str | bool, ...] = (),
    otherwise: str = "",
    see: str = "",
) -> dict[str, JsonValue]:
    """The `json_schema_extra` of a field.

    Args:
      group: what the field is about.
      advanced: whether a plain job leaves the field out.
      choices: the texts that the field takes, unless its type says so.
      when: the field counts only if the field of this name has one of these values, or any value.
      otherwise: what holds if the field is left out, in words; by default the default. A field
        without a default is not required then, because something else fills it.
      see: the page with more to say, as a link within ``docs/``.
    """
    extra: dict[str, JsonValue] = {"group": group}
    if advanced:
        extra["advanced"] = True
    if choices:
        extra["choices"] = list(choices)
    if when:
        extra["visible"] = {"field": when[0], **({"values": list(when[1:])} if when[1:] else {})}
    if otherwise:
        extra["otherwise"] = otherwise
    if see:
        extra["see"] = see
    return extra


def title_of(name: str, info: object = None) -> str:
    """The title of a field by its name: ``embeddingColumns`` gives ``Embedding columns``."""
    words = [_WORDS.get(word.lower(), word.lower()) for word in _PART.findall(name)]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


DataSourceName = Annotated[
    str | None,
    Field(
        title="Data source",
        description="the name of the data source",
        examples=["Books"],
        json_schema_extra=in_form("connection"),
    ),
]
"""The name of a data source, for a step."""

SourceType = Annotated[
    T, Field(description="the type of the data source", json_schema_extra=in_form("connection"))
]
"""The type of a data source: ``SourceType[Literal["milvus"]]``."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a person is told of a field.

    Attributes:
      name: the field's name in a job.
      others: its other names in a job.
      title: two or three words for a form.
      description: what the field says, as a part of a sentence; empty if nobody wrote it.
      group: what the field is about; empty if nobody said it.
      order: its place among the fields of its class, from 0.
      advanced: whether a plain job leaves the field out.
      required: whether it must be given.
      default: the value that holds if it is left out; None without one.
      otherwise: what holds if it is left out, in words.
      choices: the values that it takes; empty if it takes any value of its type.
      examples: values that it takes.
      visible: the `field` and the `values` of it that make this field count.
      see: the page with more to say.
      types: the types that it takes, without null.
      secret: whether its value is kept out of all that is shown.
      bounds: the least and the most that it takes, in words of JSON Schema.
    """

    name: str
    others: tuple[str, ...]
    title: str
    description: str
    group: str
    order: int
    advanced: bool
    required: bool
    default: Any
    otherwise: str
    choices: tuple[Any, ...]
    examples: tuple[Any, ...]
    visible: dict[str, Any] | None
    see: str
    types: tuple[Any, ...]
    secret: bool
    bounds: dict[str, Any]


def described(model: type[BaseModel]) -> list[Described]:
    """The fields of a class of settings, in the order of the class."""
    return [_described(n, f, at) for at, (n, f) in enumerate(model.model_fields.items())]


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The classes of settings that values of a type hold, each once."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def _described(name: str, field: FieldInfo, order: int) -> Described:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    first, *others = _names(name, field)
    kinds = tuple(_types(field.annotation))
    choices = tuple(extra.get("choices") or _choices(kinds))  # type: ignore[arg-type]
    default = None if field.default is PydanticUndefined else field.default
    examples = tuple(field.examples or (c for c in choices if c != default))
    return Described(
        name=first,
        others=tuple(others),
        title=field.title or title_of(first),
        description=field.description or "",
        group=str(extra.get("group", "")),
        order=order,
        advanced=bool(extra.get("advanced")),
        required=field.is_required() and not extra.get("otherwise"),
        default=default,
        otherwise=str(extra.get("otherwise", "")),
        choices=choices,
        examples=examples or choices,
        visible=extra.get("visible"),  # type: ignore[arg-type]
        see=str(extra.get("see", "")),
        types=kinds,
        secret=bool(extra.get("secret")) or _is_secret(field.annotation),
        bounds=_bounds(field),
    )


def _names(name: str, field: FieldInfo) -> list[str]:
    """The names of a field in a job; that of Python is left out."""
    given = field.validation_alias
    if isinstance(given, AliasChoices):
        names = [str(choice) for choice in given.choices if isinstance(choice, str)]
        return [n for n in names if "_" not in n and n != "paths"] or names
    return [str(given or field.alias or name)]


def _types(annotation: Any) -> Iterator[Any]:
    """The types in an annotation, without null and without what is said beside a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _types(get_args(annotation)[0])
    elif origin is Union or origin is types.UnionType:
        for part in get_args(annotation):
            yield from _types(part)
    elif annotation is not type(None):
        yield annotation


def _choices(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if kinds == (bool,):
        return (True, False)
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return get_args(kinds[0])
    return ()


def _bounds(field: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in field.metadata:
        if isinstance(part, Ge):
            found["minimum"] = part.ge
        elif isinstance(part, Gt):
            found["exclusiveMinimum"] = part.gt
        elif isinstance(part, Le):
            found["maximum"] = part.le
    return found


def _is_secret(annotation: Any) -> bool:
    """Whether a type of a field, or of what it holds, is a secret."""
    for part in get_args(annotation):
        extra = part.json_schema_extra if isinstance(part, FieldInfo) else None
        if (isinstance(extra, dict) and extra.get("secret")) or _is_secret(part):
            return True
    return False
