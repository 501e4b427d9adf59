"""Text: a line is one value, or fields between delimiters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from vecferry.io.files.formats.base import FormatSettings, LineSpec, require_header

if TYPE_CHECKING:
    from vecferry.io.files.formats.records import Parser, Rejects


@dataclass(frozen=True, kw_only=True)
class TextSpec(LineSpec):
    """Text; `whole_line` is that nobody splits a line."""

    name = "text"
    holds_texts = True

    whole_line: bool = False

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """Names need a header line."""
        super().check_settings(settings)
        require_header(settings)

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        spec = super().of(settings)
        split = settings.field_delimiter or spec.by_name or any(c.index for c in spec.columns)
        return replace(spec, whole_line=not split)

    def parser(self, header: list[str] | None, rejects: Rejects) -> Parser:
        """One that splits at delimiters, or not at all."""
        from vecferry.io.common.unfit import UnfitValue
        from vecferry.io.files.formats.records import BARE_RETURN, Fields, FieldsToRow, WholeLines

        taken = [c for c in self.columns if c.index is not None]
        if self.whole_line and [c.type for c in taken] in ([None], ["string"]):
            return WholeLines(
                taken[0].label,
                rejects,
                self.constants(rejects.path),
                null=self.null,
                skip_blank=self.skip_blank,
                comment=self.comment,
                takes_returns=False,
            )
        delimiter, whole = self.delimiter, self.whole_line
        to_row = FieldsToRow(self, header, rejects.path)

        def split(text: str) -> list[str]:
            if "\r" in text:
                raise UnfitValue(BARE_RETURN, "bare-carriage-return")
            return [text] if whole else text.split(delimiter)

        return Fields(to_row, rejects, split, skip_blank=self.skip_blank, comment=self.comment)
