"""What a job says of a MaxCompute table, and a data source of its project."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from vecferry.settings import SecretText, Settings


class OdpsConnection(Settings):
    """A MaxCompute project, with the access key of a RAM user."""

    type: Literal["odps"] = "odps"
    endpoint: str
    project: str
    access_id: SecretText
    access_key: SecretText
    tunnel_endpoint: str | None = None


class OdpsSettings(Settings):
    """The `odps` reader, as DataWorks Data Integration and DataX write it."""

    datasource: str
    table: str = Field(min_length=1)
    project: str | None = None
    partition: tuple[str, ...] = ()
    column: list[Any] = Field(min_length=1)
    tunnel_quota: str | None = None
    success_on_no_partition: bool = False
    enable_where: bool = False
    where: str | None = None
    split_mode: Literal["record", "partition"] = "record"

    @field_validator("partition", "column", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _where_is_enabled(self) -> OdpsSettings:
        if self.enable_where and not self.where:
            raise ValueError(
                "enableWhere is on and where is empty; write a condition or turn it off"
            )
        return self

    def inputs(self) -> list[str]:
        """A reader needs no columns."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns by name; None where ``*`` takes all of the table."""
        if "*" in self.column:
            return None
        names = [c if isinstance(c, str) else str(c.get("name")) for c in self.column]
        return dict.fromkeys(names)
