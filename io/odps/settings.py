"""What a job says of a MaxCompute table, and a data source of its project."""

from __future__ import annotations

import json
import re
import zoneinfo
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.io.common.types import TYPES, json_converter
from vecferry.io.odps.partitions import parse_pattern
from vecferry.settings import Connection, SecretText, Settings, StepSettings, pick

PUBLIC_QUOTA = "default"
"""The name under which DataWorks shows the public data transmission service."""


class OdpsConnection(Connection):
    """A MaxCompute project, with the access key of a RAM user or a temporary one of STS."""

    type: Literal["odps"] = "odps"
    endpoint: str
    project: str = Field(min_length=1)
    access_id: SecretText
    access_key: SecretText
    security_token: SecretText | None = None
    tunnel_endpoint: str | None = None

    @field_validator("endpoint", "tunnel_endpoint")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None and not re.match(r"https?://[^/\s]", address):
            bare = address.rpartition("@")[2].partition("?")[0]
            raise ValueError(
                f"{bare!r} is not an address; write it with its scheme, such as "
                "https://service.cn-hangzhou.maxcompute.aliyun.com/api"
            )
        return address

    @field_validator("access_id", "access_key")
    @classmethod
    def _given(cls, key: str) -> str:
        if not key.strip():
            raise ValueError('the key is empty: write it, or name its variable, such as "${AK}"')
        return key


class OdpsColumn(Settings):
    """A column of the reader: one of the table by `name`, or the constant `value`.

    A text in a job is a column's name; in single quotes it is a constant, as DataX writes one. A
    number, a boolean and null are constants. A constant without a name is called as the job writes
    it.
    """

    name: str = Field(min_length=1)
    value: Any = None
    type: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, given: Any) -> Any:
        if isinstance(given, str):
            quoted = len(given) >= 2 and given[0] == given[-1] == "'"
            return {"name": given, "value": given[1:-1]} if quoted else {"name": given}
        if given is None or isinstance(given, bool | int | float):
            plain = isinstance(given, int | float) and not isinstance(given, bool)
            return {"name": str(given) if plain else json.dumps(given), "value": given}
        if isinstance(given, dict) and "value" in given and not given.get("name"):
            raise ValueError("a constant needs a `name`: it is the column's in each row")
        return given

    @model_validator(mode="after")
    def _typed(self) -> OdpsColumn:
        if self.type is None:
            return self
        if self.type.lower() not in TYPES:
            raise ValueError(
                f"{self.type!r} is not a type of a constant; use one of {', '.join(TYPES)}"
                f"{near(self.type, TYPES)}"
            )
        if not self.constant:
            raise ValueError(
                f"column {self.name!r} comes with its type from the table; leave `type` out"
            )
        try:
            _ = self.constant_value
        except ValueError as e:
            raise ValueError(f"column {self.name!r}: {e}") from e
        return self

    @property
    def constant(self) -> bool:
        """Whether the column is the same in each row, and not of the table."""
        return "value" in self.model_fields_set

    @property
    def constant_value(self) -> Any:
        """The constant, as its `type` says."""
        convert = json_converter(self.type.lower()) if self.type else None
        return convert(self.value) if convert and self.value is not None else self.value


def _plain_constants(schema: dict[str, Any]) -> None:
    """Lets an editor also take a number, a boolean or null for a column."""
    schema["items"] = {"anyOf": [schema["items"], {"type": ["number", "boolean", "null"]}]}


class OdpsSettings(StepSettings):
    """The `odps` reader, as DataWorks Data Integration and DataX write it.

    `maxSplitRows` and `timezone` are ours.
    """

    datasource: str | None = None
    table: str
    project: str | None = None
    partition: tuple[str, ...] = ()
    column: tuple[OdpsColumn, ...] = Field(min_length=1, json_schema_extra=_plain_constants)
    tunnel_quota: str | None = None
    success_on_no_partition: bool = False
    enable_where: bool = False
    where: str | None = None
    split_mode: Literal["record", "partition"] = "record"
    is_compress: bool = False
    max_split_rows: int = Field(default=1_000_000, ge=1)
    timezone: str = "UTC"

    ignored: ClassVar[frozenset[str]] = frozenset(
        {"accountType", "guid", "maxRetryTime", "odpsServer", "tunnelServer"}
    )

    @field_validator("table")
    @classmethod
    def _bare_name(cls, table: str) -> str:
        if not re.fullmatch(r"\w+", table):
            raise ValueError(
                f"{table!r} is not a name of a table; write the name alone and its project into "
                "`project` (schemas within a project are not supported)"
            )
        return table

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        # DataWorks' form writes "" for what was left empty.
        if not isinstance(given, dict):
            return given
        return {k: v for k, v in given.items() if v is not None and v != ""}

    @field_validator("partition", "column", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("partition", mode="before")
    @classmethod
    def _none_is_blank(cls, value: Any) -> Any:
        return [v for v in value if v != ""] if isinstance(value, list | tuple) else value

    @field_validator("split_mode", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return pick(value, ("record", "partition"), "splitMode")

    @field_validator("partition")
    @classmethod
    def _readable_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            parse_pattern(pattern)
        return patterns

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as e:
            known = zoneinfo.available_timezones()
            raise ValueError(
                f"{name!r} is not a time zone; use a name such as UTC or Asia/Shanghai"
                f"{near(name, known)}"
            ) from e
        return name

    @model_validator(mode="after")
    def _consistent(self) -> OdpsSettings:
        if self.enable_where and not (self.where or "").strip():
            raise ValueError(
                "enableWhere is on and where is empty; write a condition or turn it off"
            )
        names = [c.name.lower() for c in self.column if c.name != "*" or c.constant]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise ValueError(
                f"column {min(twice)!r} stands twice in `column`; a row has each name once"
            )
        return self

    @property
    def quota(self) -> str | None:
        """The exclusive data transmission quota; None is the public one."""
        name = self.tunnel_quota
        return None if not name or name.lower() == PUBLIC_QUOTA else name

    @property
    def condition(self) -> str | None:
        """The SQL condition that rows must meet; None takes all."""
        return self.where if self.enable_where else None

    @property
    def takes_all(self) -> bool:
        """Whether ``*`` is among the columns."""
        return any(c.name == "*" and not c.constant for c in self.column)

    def inputs(self) -> list[str]:
        """A reader needs no columns."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns by name; None where ``*`` takes all of the table."""
        return None if self.takes_all else dict.fromkeys(c.name for c in self.column)
