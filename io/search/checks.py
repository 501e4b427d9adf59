"""A job against an index: what does not fit, what can't be created, what may surprise."""

from __future__ import annotations

import orjson

from vecferry.errors import near
from vecferry.io.search.catalog import MOST_NAMES, IndexInfo, SearchIndex
from vecferry.io.search.dialect import Field, metric_of
from vecferry.io.search.forms import INTEGERS
from vecferry.io.search.settings import SearchColumn, SearchSettings
from vecferry.io.sink.mark import Mark
from vecferry.rows import CHUNK_INDEX


def uncreatable(settings: SearchSettings) -> list[str]:
    """Why the index can't be created."""
    if settings.index_body is not None:
        return []
    if not any(not c.is_meta for c in settings.column):
        return ["column must list its fields, with their types"]
    return [f"column {c.name!r} has no type" for c in settings.column if c.type is None]


def missing(settings: SearchSettings, index: SearchIndex, mark: Mark) -> list[str]:
    """Why the job can't do without the index, which is not there; what would create it."""
    what = f"{index.where}: {index.absent()}"
    problems = uncreatable(settings)
    if settings.creates:
        return [f"{what} and can't be created: {p}" for p in problems]
    way = ""
    if not problems and all(c.dimension for c in settings.column if c.is_vector):
        body = orjson.dumps(index.body(mark)).decode()
        way = f"; this would create it: PUT /{settings.index} {body}"
    return [f"{what}; create it, or set schemaCreateMode to createIfNotExist{way}"]


def misnamed(settings: SearchSettings, index: SearchIndex) -> list[str]:
    """Why the alias can't be moved: it is the name of an index."""
    alias, name = settings.alias, settings.index
    if alias is None or index.names(alias) != "index":
        return []
    swap = [{"remove_index": {"index": alias}}, {"add": {"index": name, "alias": alias}}]
    request = orjson.dumps({"actions": swap}).decode()
    return [
        f"alias {alias!r} is the name of an index already, and can't be both: choose another "
        f"alias. Or fill {name!r} without moving one, then put it in the place of that index, "
        f"which deletes the index: POST /_aliases {request}"
    ]


def outdated(index: SearchIndex) -> list[str]:
    """That the server is older than the writer needs, where it tells its version."""
    version, least = index.version, index.dialect.least_version
    if version is None or version >= least:
        return []
    store = index.dialect.store
    return [f"{index.where} is {store} {_dotted(version)}; {_dotted(least)} or newer is needed"]


def unknown_version(index: SearchIndex) -> list[str]:
    """A note where the server's version may not be read."""
    if index.version is not None:
        return []
    store, least = index.dialect.store, _dotted(index.dialect.least_version)
    return [f"{store} does not tell its version to this user; {least} or newer is needed"]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def mismatches(settings: SearchSettings, info: IndexInfo) -> list[str]:
    """What the job says otherwise than the index: types, dimensions, names; and its own rules."""
    problems = [*_rules(settings, info), *_document_rules(settings, info)]
    for column in settings.column:
        field = info.fields.get(column.name)
        if not column.is_meta and field is not None:
            problems += filter(None, [_otherwise(info.name, column, field)])
    known = info.fields.values() if not settings.sources() else ()
    if not settings.sources() and not known and not settings.dynamic:
        problems.append(
            f"index {info.name!r} has no fields yet, so every document would be empty: list the "
            "fields in column, or set dynamic: true"
        )
    if settings.dynamic and not info.strict:
        return problems
    meta = {c.name for c in settings.column if c.is_meta}
    for name in settings.sources():
        if name not in info.fields and name not in meta:
            problems.append(
                f"index {info.name!r} has no field {name!r}{near(name, info.fields)}; it has "
                f"{', '.join(sorted(info.fields)[:MOST_NAMES]) or 'none'}"
            )
    return problems


def notes(settings: SearchSettings, info: IndexInfo | None) -> list[str]:
    """What is not a fault, but may surprise people."""
    out = []
    if not settings.keys:
        out.append(
            "no column has primaryKey: true, so the store gives each document an id, and a row "
            "that is written twice is there twice"
        )
    sources = settings.sources()
    left = [c.name for c in settings.column if not c.is_meta and c.name not in sources]
    if left:
        out.append(f"columnMapping fills nothing into {', '.join(left)}")
    if info is not None and not settings.column and settings.column_mapping is None:
        names = ", ".join(sorted(info.fields)[:MOST_NAMES])
        out.append(f"no column is listed: only columns of these names are written: {names}")
    return out


def _rules(settings: SearchSettings, info: IndexInfo) -> list[str]:
    out = []
    if info.is_stream and settings.action_type != "create":
        out.append(
            f"{settings.index!r} is a data stream, which takes new documents only: set actionType "
            "to create, or write into an index"
        )
    if info.routed and not settings.routing:
        out.append(
            f"index {info.name!r} needs a routing for each document: name its column as "
            "esPartitionColumn"
        )
    return out


def _document_rules(settings: SearchSettings, info: IndexInfo) -> list[str]:
    """What keeps the chunks of a document from being found."""
    if not settings.parent_key:
        return []
    sources = settings.sources() or {name: name for name in info.fields}
    into = {source: name for name, source in sources.items()}
    out = []
    for column in (*settings.parent_key, CHUNK_INDEX):
        kinds = INTEGERS if column == CHUNK_INDEX else {"keyword": (), **INTEGERS}
        field = info.fields.get(into.get(column, column))
        if field is None or column not in into:
            out.append(
                f"index {info.name!r} has no field for column {column!r}, by which parentKey finds "
                "the chunks of a document; list it in column"
            )
        elif field.type not in kinds:
            wanted = "a whole number" if column == CHUNK_INDEX else "a keyword or a whole number"
            out.append(
                f"field {field.name!r} of index {info.name!r} is a {field.type}, and parentKey "
                f"needs {wanted} there to find the chunks of a document; use another field"
            )
        elif field.most_letters is not None:
            out.append(
                f"field {field.name!r} of index {info.name!r} has ignore_above "
                f"({field.most_letters}), so parentKey would not find the chunks of a document "
                "with a longer name; use a field without ignore_above"
            )
    return out


def _otherwise(index: str, column: SearchColumn, field: Field) -> str | None:
    what = f"field {field.name!r} of index {index!r}"
    if field.type == "alias":
        return f"{what} is an alias of another field, which can't be written: name that field"
    if column.type is not None and column.type != field.type:
        return f"{what} is a {field.type}, and the job says {column.type}: make both the same"
    if column.dimension and field.dimension and column.dimension != field.dimension:
        return (
            f"{what} has {field.dimension} dimensions, and the job says {column.dimension}: "
            "make both the same"
        )
    extra = column.mapping
    word = extra.get("similarity") or extra.get("spaceType") or extra.get("space_type")
    if word and field.metric in ("cosine", "dot", "l2") and metric_of(str(word)) != field.metric:
        return f"{what} compares by {field.metric}, and the job says {word}: make both the same"
    return None
