"""What a ``json-extracting`` step may say; no Beam, and the JSONPath library only where needed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.fields import in_form
from vecferry.settings import Settings, StepSettings

JsonType = Literal["STRING", "LONG", "DOUBLE", "BOOLEAN", "DATE", "JSON"]
InvalidDataAction = Literal["DIRTY_DATA", "SET_NULL", "DROP_ROW"]

PlainPath = tuple[str | int, ...]
"""A path of names and indexes only, such as ``("a", "b", 0)`` for ``$.a.b[0]``."""

# At most 15 digits: the library's own limit of an index is 2**53 - 1.
_STEP = re.compile(
    r"""\.(?P<short>[A-Za-z_][A-Za-z0-9_]*)
      | \['(?P<single>[^'"\\\x00-\x1f]*)'\]
      | \["(?P<double>[^'"\\\x00-\x1f]*)"\]
      | \[(?P<index>0|-?[1-9][0-9]{0,14})\]""",
    re.VERBOSE,
)


def plain_path(path: str) -> PlainPath | None:
    """The names and indexes of a path that has nothing else, or None for any other path."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            return None
        text = step[step.lastgroup or 0]
        steps.append(int(text) if step.lastgroup == "index" else text)
        position = step.end()
    return tuple(steps)


def compile_path(path: str) -> Any:
    """`path` compiled by the JSONPath library; ValueError says what is wrong, and where."""
    import jsonpath

    if not path.startswith("$"):
        hint = path.lstrip(".")
        raise ValueError(f"jsonPath {path!r} must begin with '$', the whole document: '$.{hint}'?")
    try:
        return jsonpath.compile(path)
    except jsonpath.JSONPathError as e:
        index = e.token.index if e.token is not None else -1
        # The library gives -1 for the end of the path.
        where = f"character {index + 1}" if index >= 0 else "its end"
        raise ValueError(
            f"jsonPath {path!r} is not a JSONPath: {e.message} at {where}; "
            "write it as in '$.a.b[0]', \"$['a b']\" or '$.items[*].name' (RFC 9535)"
        ) from None


def gives_one(compiled: object) -> bool:
    """Whether a compiled path can match one value at most."""
    import jsonpath

    return isinstance(compiled, jsonpath.JSONPath) and compiled.singular_query()


def _one_of(kind: str, known: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> Any:
        folded = value.strip().upper() if isinstance(value, str) else value
        if folded not in known:
            raise ValueError(
                f"{value!r} is not {kind}: take one of {', '.join(known)}{near(str(value), known)}"
            )
        return folded

    return BeforeValidator(check)


class JsonColumn(Settings):
    """One value to take out of a JSON text.

    Attributes:
      name: the new column; the name of a column that the row has already replaces that one.
      from_column: the column that holds the JSON text, or what was parsed from one.
      json_path: where the value is, ``$`` being the whole document.
      type: what the value becomes: `str`, `int` of 64 bits, `float`, `bool`, an aware `datetime`
        in UTC, or for JSON a dict, list or scalar.
      null_or_invalid_data_action: whether the row is rejected, gets a null, or is dropped and
        counted, if the value is missing, null or of another type.
      explode: whether the value is a list, and each of its elements becomes a row of its own.
    """

    name: str = Field(
        min_length=1,
        description="the new column; an existing column of this name is replaced",
        examples=["price"],
        json_schema_extra=in_form("columns"),
    )
    from_column: str = Field(
        min_length=1,
        description="the column that holds the JSON: a text, bytes, or a parsed value such as a "
        "map of a lake table",
        examples=["line"],
        json_schema_extra=in_form("columns"),
    )
    json_path: str = Field(
        title="JSONPath",
        description="where the value is; `$` is the whole document",
        examples=["$.price"],
        json_schema_extra=in_form("columns"),
    )
    type: Annotated[JsonType, _one_of("a type", get_args(JsonType))] = Field(
        default="STRING",
        description="the type of the new column, in any case",
        json_schema_extra=in_form("columns", see="json-extracting.md#types"),
    )
    null_or_invalid_data_action: Annotated[
        InvalidDataAction, _one_of("an action", get_args(InvalidDataAction))
    ] = Field(
        default="DIRTY_DATA",
        title="Without a value",
        description="what to do without such a value",
        json_schema_extra=in_form("columns"),
    )

    explode: bool = Field(
        default=False,
        title="A row for each element",
        description="with `type: JSON`: whether each element of the list becomes a row of its own",
        json_schema_extra=in_form("columns", see="json-extracting.md#a-row-for-each-element"),
    )

    @field_validator("json_path")
    @classmethod
    def _path_compiles(cls, value: str) -> str:
        value = value.strip()
        if plain_path(value) is None:
            compile_path(value)
        return value

    @model_validator(mode="after")
    def _lists_are_json(self) -> Self:
        if self.explode and self.type != "JSON":
            raise ValueError(
                f"column {self.name!r} has explode, which takes a list ({self.type}); make its "
                "type JSON, and take values out of its elements by a second json-extracting step"
            )
        return self

    @property
    def index_name(self) -> str:
        """With `explode`: the column with the number of the element, from 0."""
        return f"{self.name}_index"


class JsonExtractSettings(StepSettings):
    """The parameters of ``json-extracting``: the columns to add, in this order."""

    column: tuple[JsonColumn, ...] = Field(
        description="the columns to make",
        examples=[
            [{"name": "price", "fromColumn": "line", "jsonPath": "$.price", "type": "DOUBLE"}]
        ],
        json_schema_extra=in_form("columns"),
    )

    @field_validator("column")
    @classmethod
    def _columns_differ(cls, value: tuple[JsonColumn, ...]) -> tuple[JsonColumn, ...]:
        if not value:
            raise ValueError("column is empty; name at least one value to extract")
        seen: set[str] = set()
        for column in value:
            if column.name in seen:
                raise ValueError(
                    f"two columns are named {column.name!r}; give each its own name, "
                    "or extract the second in a json-extracting step of its own"
                )
            seen.add(column.name)
        exploded = [column for column in value if column.explode]
        if len(exploded) > 1:
            raise ValueError(
                f"columns {exploded[0].name!r} and {exploded[1].name!r} both have explode; "
                "explode the second in a json-extracting step of its own"
            )
        for column in exploded:
            if column.index_name in seen:
                raise ValueError(
                    f"column {column.index_name!r} would be the number of an element of "
                    f"{column.name!r}, too; give one of the two another name"
                )
        return value

    def exploded(self) -> JsonColumn | None:
        """The column of whose list each element becomes a row."""
        return next((column for column in self.column if column.explode), None)

    def part_columns(self) -> list[str]:
        """What differs between the rows of one list: the element, and its number."""
        column = self.exploded()
        return [column.name, column.index_name] if column else []

    def inputs(self) -> list[str]:
        """The columns that hold the JSON texts, each once."""
        return list(dict.fromkeys(c.from_column for c in self.column))

    def outputs(self) -> dict[str, int | None]:
        """The columns that are added; none of them is a vector."""
        index = [c.index_name for c in self.column if c.explode]
        return dict.fromkeys([*(c.name for c in self.column), *index])

    def decides_by(self) -> list[str]:
        """The columns whose JSON texts may cost a row its place."""
        dropping = [c for c in self.column if c.null_or_invalid_data_action == "DROP_ROW"]
        return list(dict.fromkeys(c.from_column for c in dropping))

    def made_of(self) -> dict[str, list[str]]:
        """Each column that is added, with the column whose JSON text it comes from."""
        made = {c.name: [c.from_column] for c in self.column}
        return made | {c.index_name: [c.from_column] for c in self.column if c.explode}

    def column_types(self) -> dict[str, str]:
        """The types of the columns that are added."""
        types = {c.name: c.type.lower() for c in self.column}
        return types | {c.index_name: "long" for c in self.column if c.explode}
