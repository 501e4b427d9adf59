"""What a job may say of a field of an index, of the columns that fill it, and of ids."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator

from vecferry.settings import Settings

VECTOR_TYPES = ("dense_vector", "knn_vector")
META_TYPES = ("id", "routing", "version")
"""DataX's words for columns that are no fields: the document's id, what it is routed by, and what
orders the rows of one id."""
_OF_DATAX = frozenset(
    {"array", "dstArray", "json_array", "jsonArray", "other_params", "otherParams", "origin",
     "dstFormat"}
)  # fmt: skip
"""What DataX says of a column that does not belong into its mapping as it is."""
_REFUSED = {
    "combineFields": "join the columns of an id by primaryKeyInfo",
    "timezone": "write times with their zone, such as 2026-01-02T03:04:05+08:00, before this step",
}


class SearchColumn(Settings):
    """A field of the index. What else is written here goes into its mapping as it is."""

    passes_on: ClassVar[bool] = True

    name: str = Field(min_length=1)
    type: str | None = None
    primary_key: bool = False
    dimension: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("dimension", "dims")
    )

    @field_validator("type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def is_key(self) -> bool:
        """Whether the document's id comes from this column."""
        return self.primary_key or self.type == "id"

    @property
    def is_meta(self) -> bool:
        """Whether this column goes beside the document, not into it."""
        return self.type in META_TYPES

    @property
    def is_vector(self) -> bool:
        """Whether this is a vector field, in either store's word."""
        return self.type in VECTOR_TYPES

    @property
    def is_split(self) -> bool:
        """Whether its texts are lists, written with the job's `splitter` between the values."""
        return self._says("array")

    @property
    def is_json(self) -> bool:
        """Whether its texts are JSON."""
        return self._says("json_array") or self._says("jsonArray")

    @property
    def mapping(self) -> dict[str, Any]:
        """What else its mapping holds, beside the type."""
        extra = self.model_extra or {}
        out = {k: v for k, v in extra.items() if k not in _OF_DATAX}
        if "dstFormat" in extra:
            out["format"] = extra["dstFormat"]
        return out | (extra.get("other_params") or extra.get("otherParams") or {})

    def problem(self) -> str | None:
        """What DataX knows of columns, and we can't do; passing it over would change values."""
        if self.name == "_id" and not self.is_meta:
            return "column '_id' is the document's id and no field: give it the type id"
        if self.type == "parent":
            return f"column {self.name!r}: type parent is not known here: leave the column out"
        for key, way in _REFUSED.items():
            if (self.model_extra or {}).get(key):
                return f"column {self.name!r}: {key} is not known here: {way}"
        return None

    def _says(self, key: str) -> bool:
        return str((self.model_extra or {}).get(key)).lower() == "true"


class ColumnMapping(Settings):
    """Which column of the row goes into which field."""

    source_col_name: str = Field(min_length=1)
    dst_col_name: str = Field(min_length=1)


class PrimaryKeyInfo(Settings):
    """DataWorks' way to say which columns make up the id; several are joined."""

    type: Literal["pk", "specific", "nouse"] = "specific"
    field_delimiter: str | None = None
    column: tuple[str, ...] = ()

    @field_validator("column", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return column_names(value)


def column_names(value: Any) -> Any:
    """Names of columns, given as one, as a list, or as objects with a `name`."""
    given = [value] if isinstance(value, str | dict) else value or ()
    return [v.get("name") if isinstance(v, dict) else v for v in given]
