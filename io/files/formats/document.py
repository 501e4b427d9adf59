"""Documents: a file is a row, or each page of it is, whatever program wrote the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import orjson

from vecferry.errors import JobError
from vecferry.io.files.formats.base import FileReader, FormatSettings, FormatSpec, Opener
from vecferry.io.files.formats.parameters import DocumentLimits
from vecferry.io.files.parsers import CLIENTS, require_entry_points
from vecferry.kinds import Client

if TYPE_CHECKING:
    from vecferry.rows import Change, Reject
    from vecferry.steps import StepContext

COLUMNS = {
    "path": "string",
    "text": "string",
    "title": "string",
    "type": "string",
    "page": "long",
    "modified": "string",
    "size": "long",
}
"""The columns of every document, and their types."""


@dataclass(frozen=True, kw_only=True)
class DocumentSpec(FormatSpec):
    """Documents; `parsers` has the entry points of the types that others parse.

    `max_bytes` is the longest text of a row.
    """

    name = "document"
    splittable = False
    whole_files = True
    line_options: ClassVar[tuple[str, ...]] = ("perPage", "documentLimits", "parsers")
    all_columns: ClassVar[Mapping[str, str]] = COLUMNS

    encoding: str = "utf-8"
    max_bytes: int
    per_page: bool = False
    limits: DocumentLimits
    parsers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """The columns are always the same."""
        super().check_settings(settings)
        if settings.skip_header:
            raise ValueError("a document has no header line: remove skipHeader")
        for column in settings.column:
            if column.source in ("lineNumber", "recordKey"):
                raise ValueError(
                    f"column {column.label!r} is the {column.source}, which a document has not; "
                    "take the column page"
                )
            if column.index is not None or (column.in_file and column.name not in COLUMNS):
                raise ValueError(
                    f"column {column.label!r} is none of a document; it has {', '.join(COLUMNS)}"
                )

    @classmethod
    def path_column(cls, settings: FormatSettings) -> str | None:
        """The column `path`, by the name that the job gives it."""
        if not settings.column:
            return "path"
        named = (c for c in settings.column if c.in_file and c.name == "path")
        found = next(named, None)
        return found.label if found else super().path_column(settings)

    @classmethod
    def may_be_one_row(cls, settings: FormatSettings) -> bool:
        """A document is one, unless each page is."""
        return not settings.per_page

    @classmethod
    def clients(cls, settings: FormatSettings) -> list[Client]:
        """Those of all types: which there are is known when they are read."""
        return list(CLIENTS)

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        return cls(
            columns=tuple(settings.column),
            compress=settings.compress,
            encoding=settings.encoding,
            max_bytes=settings.max_line_bytes,
            per_page=settings.per_page,
            limits=settings.document_limits,
            parsers=dict(settings.parsers),
        )

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """A reader of whole files. Raises JobError where a library or a parser is missing."""
        from vecferry.io.files.formats.document_files import DocumentFiles

        missing = [c for c in CLIENTS if importlib.util.find_spec(c.module) is None]
        if missing:
            raise JobError(
                f"step {context.step!r}: fileFormat document needs {missing[0].module}: "
                f"pip install '{missing[0].install}'"
            )
        try:
            require_entry_points(self.parsers)
        except LookupError as e:
            raise JobError(f"step {context.step!r}: parsers: {e.args[0]}") from e
        return DocumentFiles(self, context)


@dataclass(frozen=True)
class Kept:
    """What the reject of a document keeps in place of its bytes: where to read it again.

    Attributes:
      file: the path in the store.
      document: as `file`; of a document in a zip also its member.
      page: the number of the page that alone was rejected.
    """

    file: str
    document: str
    page: int | None = None

    @classmethod
    def of(cls, raw: str | bytes) -> Kept:
        """Reads what `raw` has written."""
        return cls(**orjson.loads(raw))

    @property
    def raw(self) -> str:
        """As a text."""
        return orjson.dumps(self).decode()

    def is_of(self, item: Change | Reject) -> bool:
        """Whether a row or a reject is of this document, and of this page if there is one."""
        if self.page is not None:
            return item.origin == f"{self.document}:{self.page}"
        return self.document in (item.origin, item.origin.rpartition(":")[0])
