"""JSON lines: an object a line, or the whole line as one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecferry.io.files.formats.base import FormatSettings, LineSpec

if TYPE_CHECKING:
    from vecferry.io.files.formats.records import Parser, Rejects


@dataclass(frozen=True, kw_only=True)
class JsonLinesSpec(LineSpec):
    """JSON lines."""

    name = "jsonl"
    line_options = ("skipRows",)

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """An index is only known as 0 of a single text, which is the whole line."""
        super().check_settings(settings)
        if settings.skip_header:
            raise ValueError("a jsonl file has no header: remove skipHeader")
        indexed = [c for c in settings.column if c.index is not None]
        if not indexed:
            return
        first = indexed[0]
        others = [c.label for c in settings.column if c.in_file and c is not first]
        if first.index or others or first.type not in (None, "string"):
            raise ValueError(
                f"column {first.label!r} has the index {first.index}: jsonl knows only index 0 of "
                "a single string column, the whole line; take keys of objects by name"
            )

    def check_head(self, head: bytes) -> None:
        """JSON that goes over lines is another format."""
        from vecferry.io.files.formats.signatures import require_json_lines

        require_json_lines(head, objects=all(c.index is None for c in self.columns))

    def parser(self, header: list[str] | None, rejects: Rejects) -> Parser:
        """One of objects, or of whole lines."""
        from vecferry.io.files.formats.json_lines import JsonLines
        from vecferry.io.files.formats.records import WholeLines, object_to_row

        whole = next((c.label for c in self.columns if c.index is not None), None)
        if whole is None:
            return JsonLines(object_to_row(self, rejects.path), rejects)
        return WholeLines(whole, rejects, self.constants(rejects.path), skip_blank=True)
