"""What the steps ``filter``, ``edit`` and ``deduplicate`` may say; no Beam, no client."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vecferry.fields import in_form
from vecferry.kinds import Client
from vecferry.settings import Settings, StepSettings, pick
from vecferry.transforms.shape.expressions import Expression

Operation = Literal[
    "replace", "trim", "upper", "lower", "cut", "pad", "concatenate", "date", "default",
    "constant", "digest", "id", "expression", "rename", "drop",
]  # fmt: skip
Unit = Literal["characters", "bytes"]
Side = Literal["left", "right"]
Algorithm = Literal["sha256", "sha1", "md5"]
IdFrom = Literal["hash", "origin", "uuid5"]

SEVERAL = ("concatenate", "digest", "id")
"""The operations that take `fromColumns`."""

_TEXTS = frozenset(
    ("replace", "trim", "upper", "lower", "cut", "pad", "concatenate", "digest", "id")
)
_NEEDED = {
    "replace": ("string_to_replace",),
    "cut": ("length",),
    "pad": ("length",),
    "date": ("format",),
    "expression": ("expression",),
    "rename": ("from_column",),
}
_OF = {
    "string_to_replace": ("replace",), "replace_with": ("replace",),
    "regular_expression": ("replace",), "case_sensitive": ("replace",),
    "start": ("cut",), "length": ("cut", "pad"), "unit": ("cut",),
    "side": ("pad",), "fill": ("pad",), "separator": ("concatenate",),
    "format": ("date",), "time_zone": ("date",), "value": ("default", "constant"),
    "algorithm": ("digest",), "id_from": ("id",), "expression": ("expression",),
    "from_columns": SEVERAL,
}  # fmt: skip
"""By field, the operations that it belongs to."""


def _one_of(choices: tuple[str, ...], what: str) -> BeforeValidator:
    return BeforeValidator(lambda value: pick(value, choices, what))


class FilterSettings(StepSettings):
    """The parameters of ``filter``."""

    where: str = Field(
        min_length=1,
        title="Condition",
        description="the condition in CEL that rows must meet to go on; columns are named as they "
        "are",
        examples=["km > 5 && title != ''"],
        json_schema_extra=in_form("columns", see="shaping.md#expressions"),
    )

    @field_validator("where")
    @classmethod
    def _compiles(cls, value: str) -> str:
        Expression(value)
        return value

    def inputs(self) -> list[str]:
        """The columns that the condition names."""
        return list(Expression(self.where).columns)

    def decides_by(self) -> list[str]:
        """The same columns."""
        return self.inputs()


class EditRule(Settings):
    """One operation on a column.

    Attributes:
      operation: what is done.
      column: the column that gets the value.
      from_column: the column that the value is made of, by default `column` itself.
      from_columns: the columns that the value is made of, if there are several.
    """

    operation: Annotated[Operation, _one_of(get_args(Operation), "operation")] = Field(
        description="what is done",
        json_schema_extra=in_form("columns", see="shaping.md#operations"),
    )
    column: str = Field(
        min_length=1,
        description="the column that gets the value, new or old",
        examples=["title"],
        json_schema_extra=in_form("columns"),
    )
    from_column: str | None = Field(
        default=None,
        min_length=1,
        description="the column that the value is made of",
        examples=["heading"],
        json_schema_extra=in_form("columns", otherwise="`column`"),
    )
    from_columns: tuple[str, ...] | None = Field(
        default=None,
        description="the columns that the value is made of",
        examples=[["title", "body"]],
        json_schema_extra=in_form(
            "columns", when=("operation", *SEVERAL), otherwise="`column` alone"
        ),
    )
    string_to_replace: str | None = Field(
        default=None,
        min_length=1,
        description="what is looked for",
        examples=["\\s+"],
        json_schema_extra=in_form("text", when=("operation", "replace")),
    )
    replace_with: str = Field(
        default="",
        description="what takes its place; with `regularExpression`, `\\1` is the first group",
        examples=[" "],
        json_schema_extra=in_form("text", when=("operation", "replace")),
    )
    regular_expression: bool = Field(
        default=False,
        description="whether `stringToReplace` is a regular expression of RE2",
        json_schema_extra=in_form("text", when=("operation", "replace")),
    )
    case_sensitive: bool = Field(
        default=False,
        description="whether capital letters are told from small letters",
        json_schema_extra=in_form("text", when=("operation", "replace")),
    )
    start: int = Field(
        default=0,
        ge=0,
        description="how many characters are left out before",
        examples=[2],
        json_schema_extra=in_form("text", when=("operation", "cut")),
    )
    length: int | None = Field(
        default=None,
        ge=1,
        description="the length of the result: of `cut` at most, of `pad` exactly",
        examples=[200],
        json_schema_extra=in_form("text", when=("operation", "cut", "pad")),
    )
    unit: Annotated[Unit, _one_of(get_args(Unit), "unit")] = Field(
        default="characters",
        description="what `length` counts; bytes are those of UTF-8",
        json_schema_extra=in_form("text", when=("operation", "cut")),
    )
    side: Annotated[Side, _one_of(get_args(Side), "side")] = Field(
        default="left",
        description="where the text is filled up",
        json_schema_extra=in_form("text", when=("operation", "pad")),
    )
    fill: str = Field(
        default=" ",
        min_length=1,
        max_length=1,
        description="the character that fills the text up",
        examples=["0"],
        json_schema_extra=in_form("text", when=("operation", "pad")),
    )
    separator: str = Field(
        default="",
        description="what stands between the texts",
        examples=[" "],
        json_schema_extra=in_form("text", when=("operation", "concatenate")),
    )
    format: str | None = Field(
        default=None,
        min_length=1,
        description="how the text writes the date, in the letters of Python's strptime",
        examples=["%d.%m.%Y"],
        json_schema_extra=in_form("text", when=("operation", "date")),
    )
    time_zone: str = Field(
        default="UTC",
        description="the time zone of a date without an offset",
        examples=["Asia/Shanghai"],
        json_schema_extra=in_form("text", when=("operation", "date")),
    )
    value: Any = Field(
        default=None,
        description="the value: of `constant` always, of `default` in place of null and empty "
        "texts",
        examples=["unknown"],
        json_schema_extra=in_form("columns", when=("operation", "default", "constant")),
    )
    algorithm: Annotated[Algorithm, _one_of(get_args(Algorithm), "algorithm")] = Field(
        default="sha256",
        description="the digest, which is written in small hexadecimal digits",
        json_schema_extra=in_form("columns", when=("operation", "digest")),
    )
    id_from: Annotated[IdFrom, _one_of(get_args(IdFrom), "idFrom")] = Field(
        default="hash",
        description="what the id is made of",
        json_schema_extra=in_form("columns", when=("operation", "id"), see="shaping.md#ids"),
    )
    expression: str | None = Field(
        default=None,
        min_length=1,
        description="the value, in CEL",
        examples=["price * 100.0"],
        json_schema_extra=in_form(
            "columns", when=("operation", "expression"), see="shaping.md#expressions"
        ),
    )

    @field_validator("expression")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            Expression(value)
        return value

    @field_validator("from_columns", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("time_zone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"{value!r} is not a time zone; write a name such as Asia/Shanghai or UTC"
            ) from None
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        operation = self.operation
        for name in _NEEDED.get(operation, ()):
            if getattr(self, name) is None:
                raise ValueError(f"operation {operation} needs {_camel(name)}; name it")
        for name in sorted(self.model_fields_set):
            takers = _OF.get(name)
            if takers and operation not in takers:
                raise ValueError(
                    f"{_camel(name)} is for {' and '.join(takers)} only, and the operation is "
                    f"{operation}; leave it out"
                )
        if operation in ("default", "constant") and "value" not in self.model_fields_set:
            raise ValueError(f"operation {operation} needs value; name it")
        if self.from_column is not None and (
            self.from_columns is not None or operation in ("constant", "expression", "drop")
        ):
            raise ValueError(
                f"fromColumn means nothing to {operation}"
                f"{' beside fromColumns' if self.from_columns is not None else ''}; leave it out"
            )
        if self.start and self.unit == "bytes":
            raise ValueError("start counts characters, and unit is bytes; leave start out")
        if operation == "id" and self.id_from != "origin" and not self.from_columns:
            raise ValueError("operation id needs fromColumns, which tell rows apart; name them")
        if operation == "id" and self.id_from == "origin" and self.from_columns:
            raise ValueError("idFrom is origin, which needs no fromColumns; leave them out")
        self._tried()
        return self

    def _tried(self) -> None:
        """Raises ValueError if a pattern or a format is wrong."""
        if self.operation == "replace":
            from vecferry.transforms.shape.patterns import replacer

            replacer(self)
        if self.operation == "date" and self.format is not None:
            try:
                datetime.datetime.strptime("", self.format)
            except ValueError as e:
                if "does not match" not in str(e):
                    raise ValueError(
                        f"format {self.format!r} is not one of strptime: {e}; write it as in "
                        "%Y-%m-%d"
                    ) from None

    def sources(self) -> list[str]:
        """The columns that the value is made of."""
        if self.operation == "expression":
            return list(Expression(self.expression or "").columns)
        if self.operation == "constant" or (self.operation == "id" and self.id_from == "origin"):
            return []
        if self.from_columns is not None:
            return list(self.from_columns)
        return [self.from_column or self.column]

    @property
    def takes_away(self) -> str | None:
        """The column that is gone behind the rule."""
        if self.operation == "drop":
            return self.column
        if self.operation == "rename" and self.from_column != self.column:
            return self.from_column
        return None


class EditSettings(StepSettings):
    """The parameters of ``edit``: what is done to each row, in this order."""

    rules: tuple[EditRule, ...] = Field(
        description="what is done to each row, in this order",
        examples=[[{"operation": "trim", "column": "title"}]],
        json_schema_extra=in_form("columns", see="shaping.md#operations"),
    )

    @field_validator("rules")
    @classmethod
    def _follow(cls, value: tuple[EditRule, ...]) -> tuple[EditRule, ...]:
        if not value:
            raise ValueError("rules is empty; write at least one rule")
        gone: dict[str, int] = {}
        for i, rule in enumerate(value):
            for name in rule.sources():
                if name in gone:
                    raise ValueError(
                        f"rules[{i}] takes column {name!r}, which rules[{gone[name]}] took away; "
                        "change their order"
                    )
            if rule.takes_away is not None:
                gone[rule.takes_away] = i
            if rule.operation != "drop":
                gone.pop(rule.column, None)
        return value

    def inputs(self) -> list[str]:
        """The columns that rules take, unless an earlier rule made them."""
        made: set[str] = set()
        found: dict[str, None] = {}
        for rule in self.rules:
            found |= dict.fromkeys(n for n in rule.sources() if n not in made)
            made.add(rule.column)
        return list(found)

    def outputs(self) -> dict[str, int | None]:
        """The columns that rules give; none of them is a vector."""
        found: dict[str, int | None] = {}
        for rule in self.rules:
            if rule.operation != "drop":
                found[rule.column] = None
            if rule.takes_away is not None:
                found.pop(rule.takes_away, None)
        return found

    def takes_away(self) -> list[str]:
        """The columns that were renamed or dropped."""
        gone = dict.fromkeys(r.takes_away for r in self.rules if r.takes_away is not None)
        return [name for name in gone if name not in self.outputs()]

    def made_of(self) -> dict[str, list[str]]:
        """Each column that rules give, with the columns of the row that came in."""
        made: dict[str, list[str]] = {}
        for rule in self.rules:
            sources = [o for name in rule.sources() for o in made.get(name, [name])]
            if rule.operation != "drop":
                made[rule.column] = list(dict.fromkeys(sources))
        given = self.outputs()
        return {name: sources for name, sources in made.items() if name in given}

    def column_types(self) -> dict[str, str]:
        """The types of texts and dates; those of other columns are not known."""
        types: dict[str, str] = {}
        for rule in self.rules:
            types.pop(rule.column, None)
            if rule.operation in _TEXTS:
                types[rule.column] = "string"
            elif rule.operation == "date":
                types[rule.column] = "date"
        return {name: of for name, of in types.items() if name in self.outputs()}

    def not_followed(self) -> str | None:
        """Why ids of origins can't follow a source."""
        for i, rule in enumerate(self.rules):
            if rule.operation == "id" and rule.id_from == "origin":
                return (
                    f"makes an id of origins (rules[{i}]), and each change of a row has another "
                    "origin; take idFrom hash, with the columns of the key"
                )
        return None

    def clients(self) -> list[Client]:
        """The libraries of expressions and of patterns."""
        needed = []
        if any(rule.operation == "expression" for rule in self.rules):
            needed.append(Client("cel", "vecferry[shaping]"))
        if any(rule.operation == "replace" for rule in self.rules):
            needed.append(Client("re2", "vecferry[shaping]"))
        return needed


class DeduplicateSettings(StepSettings):
    """The parameters of ``deduplicate``."""

    columns: tuple[str, ...] = Field(
        description="the columns by which rows repeat each other",
        examples=[["title", "body"]],
        json_schema_extra=in_form("columns"),
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("columns is empty; name the columns by which rows repeat each other")
        return tuple(dict.fromkeys(value))

    def inputs(self) -> list[str]:
        """The columns by which rows repeat each other."""
        return list(self.columns)

    def decides_by(self) -> list[str]:
        """The same columns."""
        return self.inputs()

    def unshareable(self) -> str | None:
        """Workers do not know what the others have seen."""
        return (
            "knows the rows of one process only, and equal rows may come to two workers; let one "
            "process run the job, or make the id of the writer of these columns, so that equal "
            "rows replace each other"
        )

    def not_followed(self) -> str | None:
        """A change of a row that was left out, or that left others out, can't be carried out."""
        return (
            "leaves out rows that repeat others, and can't tell which of them stays when one "
            "changes or goes; make the id of the writer of these columns"
        )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
