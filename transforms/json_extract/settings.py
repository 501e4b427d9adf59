"""What a ``json-extracting`` step may say; no Beam, and the JSONPath library only where needed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator

from vecferry.errors import near
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
    """

    name: str = Field(min_length=1)
    from_column: str = Field(min_length=1)
    json_path: str
    type: Annotated[JsonType, _one_of("a type", get_args(JsonType))] = "STRING"
    null_or_invalid_data_action: Annotated[
        InvalidDataAction, _one_of("an action", get_args(InvalidDataAction))
    ] = "DIRTY_DATA"

    @field_validator("json_path")
    @classmethod
    def _path_compiles(cls, value: str) -> str:
        value = value.strip()
        if plain_path(value) is None:
            compile_path(value)
        return value


class JsonExtractSettings(StepSettings):
    """The parameters of ``json-extracting``: the columns to add, in this order."""

    column: tuple[JsonColumn, ...]

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
        return value

    def inputs(self) -> list[str]:
        """The columns that hold the JSON texts, each once."""
        return list(dict.fromkeys(c.from_column for c in self.column))

    def outputs(self) -> dict[str, int | None]:
        """The columns that are added; none of them is a vector."""
        return {c.name: None for c in self.column}

    def made_of(self) -> dict[str, list[str]]:
        """Each column that is added, with the column whose JSON text it comes from."""
        return {c.name: [c.from_column] for c in self.column}

    def column_types(self) -> dict[str, str]:
        """The types of the columns that are added."""
        return {c.name: c.type.lower() for c in self.column}
