"""CSV: fields that may be quoted, and then hold delimiters and line breaks; TSV is a kind of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from vecferry.io.files.formats.base import FormatSettings, LineSpec, require_header

if TYPE_CHECKING:
    from vecferry.io.files.formats.records import Parser, Rejects

BLOCK_BYTES = 1 << 20
"""So much is worth the fifth of a millisecond that a call of pyarrow takes."""


@dataclass(frozen=True, kw_only=True)
class CsvSpec(LineSpec):
    """CSV; without a `quote` no field is quoted.

    `escape` stands before a quote that belongs to a field, in place of doubling that quote.
    `spans_lines`: a quoted field may hold line breaks; such a file is read as one split.
    """

    name = "csv"
    holds_texts = True

    quote: str | None = '"'
    escape: str | None = None
    trim: bool = False
    spans_lines: bool = True

    quoted_unsaid: ClassVar[bool] = True
    """Whether fields may be quoted if the job says nothing of quotes."""

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """Names need a header line, and the delimiter is one character."""
        super().check_settings(settings)
        require_header(settings)
        delimiter = settings.field_delimiter or cls.default_delimiter
        if len(delimiter) != 1:
            raise ValueError(
                f"fieldDelimiter {delimiter!r} of a {cls.name} file must be one character; "
                "use fileFormat text for a longer one"
            )

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        config = settings.csv_reader_config
        said = config.model_fields_set
        quoted = config.use_text_qualifier
        if not cls.quoted_unsaid:
            quoted = quoted and bool(said & {"use_text_qualifier", "text_qualifier"})
        blank = settings.skip_empty_lines
        comment = config.comment if config.use_comments else None
        return replace(
            super().of(settings),
            quote=config.text_qualifier if quoted else None,
            escape="\\" if quoted and config.escape_mode == 2 else None,
            trim=config.trim_whitespace,
            skip_blank=config.skip_empty_records if blank is None else blank,
            comment=settings.comment or comment,
            spans_lines=quoted and config.multiline,
        )

    @property
    def splittable(self) -> bool:
        """A line break in a field looks like the end of a record to who begins behind it."""
        return super().splittable and not self.spans_lines

    @property
    def by_block(self) -> bool:
        """Whether pyarrow can read this kind of CSV."""
        plain = self.delimiter.isascii() and self.delimiter not in "\r\n\0"
        return plain and self.delimiter != self.quote and not (self.trim or self.escape)

    @property
    def block_bytes(self) -> int | None:
        """More for pyarrow than for Python."""
        return BLOCK_BYTES if self.by_block else None

    def goes_on(self, header: str) -> bool:
        """Whether a quote is open at the end of the text."""
        if not self.spans_lines or self.quote is None:
            return False
        text = (
            header.replace(self.escape * 2, "").replace(self.escape + self.quote, "")
            if (self.escape)
            else header
        )
        return text.count(self.quote) % 2 == 1

    def names(self, header: str) -> list[str]:
        """The names in a header line; `UnfitValue` where their quotes don't match."""
        from vecferry.io.files.formats.csv_lines import CsvDialect

        return CsvDialect(self).split(header)

    def parser(self, header: list[str] | None, rejects: Rejects) -> Parser:
        """The quick parser before the careful one, if this kind of CSV allows the quick one."""
        from vecferry.io.files.formats.csv_lines import careful_parser
        from vecferry.io.files.formats.records import FieldsToRow

        to_row = FieldsToRow(self, header, rejects.path)
        slow = careful_parser(self, to_row, rejects)
        # If the job takes no field of the file, no column tells how many rows there are.
        if not self.by_block or not to_row.plan()[1]:
            return slow
        from vecferry.io.files.formats.csv_blocks import QuickCsv

        return QuickCsv(self, to_row, slow, f"{rejects.path}:")


@dataclass(frozen=True, kw_only=True)
class TsvSpec(CsvSpec):
    """TSV: tabs between fields, and no quotes unless the job says so."""

    name, default_delimiter, quoted_unsaid = "tsv", "\t", False
