"""Takes values out of the JSON text of a row.

Apart from `transform` because it knows nothing of Beam, and runs without it.

Each source column is parsed once a row. Plain paths (``$.a.b[0]``) are walked here, all others by
the JSONPath library; both give the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import orjson

from vecferry.errors import is_own_fault, near, own_fault, shorten
from vecferry.nesting import TOO_DEEP, too_deep
from vecferry.rows import DELETE, INSERT, Change, Reject, Row, Substitute, changes
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.json_extract.settings import (
    JsonColumn,
    JsonExtractSettings,
    PlainPath,
    compile_path,
    gives_one,
    plain_path,
)
from vecferry.transforms.json_extract.values import CONVERTERS

Find = Callable[[Any], Any]
"""Gives what a path finds in a document: None for nothing or null, `SEVERAL` for too much."""


TEXT = (str, bytes, bytearray, memoryview)
"""What is parsed; a dict, a list or a scalar of another kind is taken as parsed already."""


class _Several:
    """What a path finds that has several matches where one value is asked for."""


SEVERAL = _Several()


def find_plain(path: PlainPath) -> Find:
    """Walks a path of names and indexes."""
    if len(path) == 1 and isinstance(path[0], str):
        name = path[0]
        return lambda document: document.get(name) if isinstance(document, dict) else None

    def find(document: Any) -> Any:
        for step in path:
            if isinstance(document, dict):
                # The library also takes an index for a name where it meets an object.
                document = document.get(step if isinstance(step, str) else str(step))
            elif isinstance(step, int) and isinstance(document, list | tuple):
                if not -len(document) <= step < len(document):
                    return None
                document = document[step]
            else:
                return None
        return document

    return find


def matches(compiled: Any, document: Any) -> list[Any]:
    """Everything that a compiled path finds in a parsed document."""
    if isinstance(document, str):
        # The library would parse a text: give it one that is parsed into this text.
        document = orjson.dumps(document).decode()
    return compiled.findall(document)  # type: ignore[no-any-return]


def find_any(compiled: Any, *, as_list: bool) -> Find:
    """Asks the library; `as_list` gives all matches as a list, else there may be one only."""

    def find(document: Any) -> Any:
        try:
            found = matches(compiled, document)
        except Exception as e:  # of the interpreter or a filter; `_why` asks again and tells
            if is_own_fault(e):
                raise own_fault(f"a path in a {type(document).__name__}", e) from e
            return None
        if as_list:
            return found or None
        if len(found) > 1:
            return SEVERAL
        return found[0] if found else None

    return find


@functools.lru_cache(maxsize=256)
def finder(path: str, as_list: bool) -> Find:
    """How `path` is looked for; compiled once, since operators are made for each bundle."""
    plain = plain_path(path)
    if plain is not None:
        return find_plain(plain)
    compiled = compile_path(path)
    return find_any(compiled, as_list=as_list and not gives_one(compiled))


class JsonExtractor(Transformer):
    """The operator of ``json-extracting``: adds a column for each value asked for.

    The row keeps its columns, the source column included. In place of a change that is dropped, a
    delete goes on (`StepContext.on_reject`). A delete passes with what could be
    extracted: it needs its key only, and must not be lost for the sake of a text.
    """

    def __init__(
        self, settings: JsonExtractSettings, connection: None, context: StepContext
    ) -> None:
        self.counts = Counts()
        self.context = context
        sources = settings.inputs()
        self._sources = sources
        self._columns = [
            (
                sources.index(c.from_column),
                c.name,
                finder(c.json_path, c.type == "JSON"),
                elements if c.explode else CONVERTERS[c.type],
                c,
            )
            for c in settings.column
        ]
        self._exploded = settings.exploded()

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row with its new columns, its reject, or nothing where it is dropped.

        With a column that is exploded, a row for each element.
        """
        if self._exploded and change.kind != INSERT:
            return self._not_exploded(change, stamp)
        documents = [parse(change.get(source)) for source in self._sources]
        added: Row = {}
        for source, name, find, convert, column in self._columns:
            document = documents[source]
            found = None if document is None else find(document)
            value = None if found is None else convert(found)
            if value is not None and found is not SEVERAL:
                added[name] = value
            elif change.kind == DELETE:
                continue
            elif found is SEVERAL or column.null_or_invalid_data_action == "DIRTY_DATA":
                return [(self._reject(change, column, self._known(change, documents)), stamp)]
            elif column.null_or_invalid_data_action == "DROP_ROW":
                return self._drop(self._known(change, documents), stamp)
            else:
                self.counts.add("values-nulled")
                added[name] = None
        if self._exploded:
            return [(row, stamp) for row in self._rows(change, added, self._exploded)]
        return [(change.with_columns(added), stamp)]

    def finish(self) -> list[Emitted]:
        """Nothing: no row waits here."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def _rows(self, change: Change, added: Row, column: JsonColumn) -> list[Change]:
        """A row for each element of a list; a null is one element."""
        found = added.pop(column.name)
        if found is None:
            found = [None]
        self.counts.add("rows-split")
        if len(found) > 1:
            self.counts.add("rows-added", len(found) - 1)
        shared = {**change, **added}
        made: list[Row] = [
            {**shared, column.name: element, column.index_name: index}
            for index, element in enumerate(found)
        ]
        rows = changes(made, f"{change.origin}#", range(len(made)))
        if change.version is not None or not change.origin:
            for row in rows:
                row.version = change.version
                row.origin = row.origin if change.origin else ""
        return rows

    def _not_exploded(self, change: Change, stamp: Stamp) -> list[Emitted]:
        """A change of a row, or what goes on in place of a row that was rejected before."""
        if type(change) is Substitute:  # told already, and its elements are not known
            self.counts.add("rows-dropped")
            return []
        message = (
            "a row that changed or is gone can't take the rows of its old elements with it; read "
            "all rows anew, into a new target"
        )
        return [(self.context.reject("change-of-list", message, row=change), stamp)]

    def _known(self, change: Change, documents: list[Any]) -> Change:
        """The row with all columns that it has a value for, its key among them."""
        if not self.context.on_reject.concerns(change):
            return change
        added: Row = {}
        for source, name, find, convert, _ in self._columns:
            found = None if documents[source] is None else find(documents[source])
            if found is not None and found is not SEVERAL:
                added[name] = convert(found)
        return change.with_columns(added)

    def _drop(self, known: Change, stamp: Stamp) -> list[Emitted]:
        """Nothing; in place of a change a delete, for an older row of its key would stay."""
        self.counts.add("rows-dropped")
        instead = self.context.on_reject.of(known)
        if instead is None:
            return []
        self.counts.add("rows-added")
        self.counts.add("rows-replaced")
        return [(instead, stamp)]

    def _reject(self, change: Change, column: JsonColumn, known: Change) -> Reject:
        reason, why = explain(change, column)
        message = (
            f"column {column.name!r}: {why}; mend the data, or set nullOrInvalidDataAction "
            "to SET_NULL or DROP_ROW"
        )
        if reason == "several-matches":
            message = f"column {column.name!r}: {why}"
        return self.context.reject(reason, message, row=change, known=known)


def elements(found: object) -> list[Any] | None:
    """The elements of a list; None if there is nothing to make a row of."""
    return found if isinstance(found, list) and found else None


def parse(value: Any) -> Any:
    """The document that a source column holds; None if it is not JSON, too deep, null or absent."""
    if isinstance(value, TEXT):
        if too_deep(value):
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value


def explain(change: Change, column: JsonColumn) -> tuple[str, str]:
    """Why a column got no value: the reason of the reject and a text for a person.

    Asked for rejects only, so it may parse and look again.
    """
    source = column.from_column
    if source not in change:
        return "missing-column", f"the row has no column {source!r}{near(source, change)}"
    raw = change[source]
    if isinstance(raw, TEXT):
        if too_deep(raw):
            return "too-deep", f"in {source!r}, {TOO_DEEP}"
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError as e:
            return "invalid-json", f"{source!r} holds no JSON text: {e}: {_begin(raw)}"
    else:
        document = raw
    if raw is None or document is None:
        return "null-value", f"{source!r} is null"
    return _why_not_found(document, column)


def _why_not_found(document: Any, column: JsonColumn) -> tuple[str, str]:
    path = column.json_path
    where = f"{path!r} in {column.from_column!r}"
    try:
        found = matches(compile_path(path), document)
    except Exception as e:
        return "path-failed", f"{where} could not be followed: {shorten(e, 120)}"
    if not found:
        return "no-match", f"{where} matches nothing"
    if len(found) > 1:
        return "several-matches", (
            f"{where} matches {len(found)} values, and {column.type} holds one; "
            "narrow the path, or make the type JSON"
        )
    if found[0] is None:
        return "null-value", f"{where} is null"
    if column.explode:
        several = finder(path, as_list=True)(document)
        if several == []:
            return "empty-list", f"{where} has no elements"
        return "wrong-type", f"{where} is not a list: {_begin(several)}"
    kind = type(found[0]).__name__
    return "wrong-type", f"{where} is not a {column.type}: {_begin(found[0])} ({kind})"


def _begin(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[:80]).decode("utf-8", "replace")
    elif isinstance(value, str):
        value = value[:80]
    return repr(shorten(value, 60))
