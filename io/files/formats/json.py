"""JSON: a document a file, which is an array of objects or one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecferry.io.files.formats.base import FileReader, FormatSettings, FormatSpec, Opener

if TYPE_CHECKING:
    from typing import Self

    from vecferry.steps import StepContext


@dataclass(frozen=True, kw_only=True)
class JsonSpec(FormatSpec):
    """JSON documents; `max_bytes` is the longest object."""

    name = "json"
    splittable = False

    encoding: str = "utf-8"
    max_bytes: int

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """An object has keys, and no fields that count."""
        super().check_settings(settings)
        if settings.skip_header:
            raise ValueError("a json file has no header: remove skipHeader")
        for column in settings.column:
            if column.index is not None:
                raise ValueError(
                    f"column {column.label!r} has the index {column.index}: a JSON object has keys "
                    "only; take them by name, without an index"
                )

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        return cls(
            columns=tuple(settings.column),
            compress=settings.compress,
            encoding=settings.encoding,
            max_bytes=settings.max_line_bytes,
        )

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """A reader of whole files."""
        from vecferry.io.files.formats.json_documents import JsonDocuments

        return JsonDocuments(self, context)
