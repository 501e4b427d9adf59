"""What a job says of a MaxCompute table, and a data source of its project."""

from __future__ import annotations

import json
import re
import zoneinfo
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from vecferry.errors import near
from vecferry.fields import DataSourceName, SourceType, in_form
from vecferry.io.common.types import TYPES, json_converter
from vecferry.io.odps.partitions import parse_pattern
from vecferry.settings import Connection, SecretText, Settings, StepSettings, pick

PUBLIC_QUOTA = "default"
"""The name under which DataWorks shows the public data transmission service."""


ODPS_VARIABLES = {
    "access_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "access_key": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
}


class OdpsConnection(Connection):
    """A MaxCompute project, with the access key of a RAM user or a temporary one of STS."""

    variables = ODPS_VARIABLES

    type: SourceType[Literal["odps"]] = "odps"
    endpoint: str = Field(
        description="the address of MaxCompute in your region",
        examples=["https://service.cn-hangzhou.maxcompute.aliyun.com/api"],
        json_schema_extra=in_form("connection"),
    )
    project: str = Field(
        min_length=1,
        description="the project of the tables",
        examples=["warehouse"],
        json_schema_extra=in_form("connection"),
    )
    access_id: SecretText = Field(
        description="the AccessKey ID of a user who may read the tables",
        examples=["${ACCESS_ID}"],
        json_schema_extra=in_form("login"),
    )
    access_key: SecretText = Field(
        description="the AccessKey secret",
        examples=["${ACCESS_KEY}"],
        json_schema_extra=in_form("login"),
    )
    security_token: SecretText | None = Field(
        default=None,
        description="with keys that expire (STS): their token",
        examples=["${SECURITY_TOKEN}"],
        json_schema_extra=in_form("login", advanced=True),
    )
    tunnel_endpoint: str | None = Field(
        default=None,
        description="the address of the Tunnel",
        examples=["https://dt.cn-hangzhou.maxcompute.aliyun.com"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="as MaxCompute tells"),
    )

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

    name: str = Field(
        min_length=1,
        description="the name of the column",
        examples=["title"],
        json_schema_extra=in_form("columns"),
    )
    value: Any = Field(
        default=None,
        description="a constant, in place of a column of the table",
        examples=["web"],
        json_schema_extra=in_form("columns", advanced=True),
    )
    type: str | None = Field(
        default=None,
        description="the type of the constant",
        examples=["string"],
        json_schema_extra=in_form("columns", advanced=True),
    )

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


class _PlainConstants:
    """Lets an editor also take a number, a boolean or null for a column."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        schema["items"] = {"anyOf": [schema["items"], {"type": ["number", "boolean", "null"]}]}
        return schema


class OdpsSettings(StepSettings):
    """The `odps` reader, as DataWorks Data Integration and DataX write it.

    `maxSplitRows` and `timezone` are ours.
    """

    datasource: DataSourceName = None
    table: str = Field(
        description="a table or a view", examples=["items"], json_schema_extra=in_form("source")
    )
    project: str | None = Field(
        default=None,
        description="the project of the table",
        examples=["warehouse"],
        json_schema_extra=in_form("source", advanced=True, otherwise="the data source's"),
    )
    partition: tuple[str, ...] = Field(
        default=(),
        description="which partitions; required for a partitioned table",
        examples=[["ds=20240101"]],
        json_schema_extra=in_form("source", see="odps.md#partitions"),
    )
    column: Annotated[tuple[OdpsColumn, ...], _PlainConstants()] = Field(
        min_length=1,
        description="the columns",
        examples=[["id", "title"]],
        json_schema_extra=in_form("columns", see="odps.md#columns"),
    )
    tunnel_quota: str | None = Field(
        default=None,
        description="an exclusive data transmission quota; `default` is the public quota",
        examples=["quota_a"],
        json_schema_extra=in_form("speed", advanced=True, otherwise="public"),
    )
    success_on_no_partition: bool = Field(
        default=False,
        description="true: a missing partition is a warning; without any partition, the step has "
        "no rows",
        json_schema_extra=in_form("source", advanced=True),
    )
    enable_where: bool = Field(
        default=False,
        description="whether `where` counts",
        json_schema_extra=in_form("source", advanced=True),
    )
    where: str | None = Field(
        default=None,
        description="an SQL condition that rows must meet",
        examples=["price > 10"],
        json_schema_extra=in_form("source", advanced=True, when=("enableWhere", True)),
    )
    split_mode: Literal["record", "partition"] = Field(
        default="record",
        description="`record` cuts partitions into ranges of rows, `partition` reads each as a "
        "whole",
        json_schema_extra=in_form("speed", advanced=True),
    )
    is_compress: bool = Field(
        default=False,
        title="Compress",
        description="true: the Tunnel sends compressed data, for a slow network",
        json_schema_extra=in_form("speed", advanced=True),
    )
    max_split_rows: int = Field(
        default=1000000,
        ge=1,
        description="ours: the most rows of a split",
        examples=[100000],
        json_schema_extra=in_form("speed", advanced=True),
    )
    timezone: str = Field(
        default="UTC",
        description="ours: the zone of DATETIME and TIMESTAMP, such as `Asia/Shanghai`",
        examples=["Asia/Shanghai"],
        json_schema_extra=in_form("format", advanced=True),
    )

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
