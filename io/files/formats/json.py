"""JSON: a document a file, which is an array of objects, or one object, or has them inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vecferry.io.files.formats.base import FileReader, FormatSettings, FormatSpec, Opener

if TYPE_CHECKING:
    from typing import Self

    from vecferry.steps import StepContext


_STEP = re.compile(
    r"""\.(?P<short>[A-Za-z_][A-Za-z0-9_-]*) | \['(?P<long>[^'.]+)'\] | (?P<each>\[\*\])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class RecordPath:
    """Where the records of a document are.

    Attributes:
      prefix: the names on the way, as ijson has them; an array gives ``item``.
      keyed: whether the records are the values of an object, under a key each.
    """

    prefix: str
    keyed: bool

    @classmethod
    def of(cls, text: str) -> Self:
        """The path that a job writes. Raises ValueError for what is not such a path."""
        keyed = text.endswith(".*")
        rest = text.removesuffix(".*")
        names, place = [], 1
        while rest.startswith("$") and (step := _STEP.match(rest, place)):
            names.append(step["short"] or step["long"] or "item")
            place = step.end()
        if not rest.startswith("$") or place < len(rest):
            raise ValueError(
                f"recordPath {text!r} can't be followed: write names, [*] for all elements of an "
                "array, and at its end .* for all values of an object, as in $.data[*] or $.*"
            )
        return cls(".".join(names), keyed)


@dataclass(frozen=True, kw_only=True)
class JsonSpec(FormatSpec):
    """JSON documents; `max_bytes` is the longest object."""

    name = "json"
    splittable = False
    line_options: ClassVar[tuple[str, ...]] = ("recordPath",)

    encoding: str = "utf-8"
    max_bytes: int
    record_path: RecordPath | None = None

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """An object has keys, and no fields that count."""
        super().check_settings(settings)
        if settings.record_path is not None:
            RecordPath.of(settings.record_path)
        if settings.skip_header:
            raise ValueError("a json file has no header: remove skipHeader")
        for column in settings.column:
            if column.index is not None:
                raise ValueError(
                    f"column {column.label!r} has the index {column.index}: a JSON object has keys "
                    "only; take them by name, without an index"
                )

    @classmethod
    def may_be_one_row(cls, settings: FormatSettings) -> bool:
        """A file may hold one object."""
        return settings.record_path is None or not settings.record_path.endswith("*]")

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        return cls(
            columns=tuple(settings.column),
            compress=settings.compress,
            encoding=settings.encoding,
            max_bytes=settings.max_line_bytes,
            record_path=None
            if settings.record_path is None
            else RecordPath.of(settings.record_path),
        )

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """A reader of whole files."""
        from vecferry.io.files.formats.json_documents import JsonDocuments

        return JsonDocuments(self, context)
