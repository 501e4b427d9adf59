"""A job against a collection: what does not fit, what can't be created, what may surprise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vecferry.errors import near
from vecferry.io.milvus.catalog import (
    CODES,
    Collection,
    CollectionInfo,
    FieldInfo,
    field_options,
    filled,
)
from vecferry.io.milvus.settings import MilvusColumn, MilvusConnection, MilvusSettings
from vecferry.io.sink.mark import NAME, Mark, to_text
from vecferry.rows import CHUNK_INDEX

LITE_TYPES = frozenset(
    {"Bool", "Int8", "Int16", "Int32", "Int64", "Float", "Double", "VarChar", "Array", "JSON",
     "FloatVector", "SparseFloatVector"}
)  # fmt: skip

INTEGERS = ("Int8", "Int16", "Int32", "Int64")

_TYPES_SINCE = dict.fromkeys(("SparseFloatVector", "BFloat16Vector", "Float16Vector"), (2, 4))
"""https://milvus.io/docs/v2.4.x/release_notes.md; 2.3.5 takes a Float16Vector, and dies of it."""


Version = tuple[int, int] | None
"""Of a server; None for Milvus Lite, and where a server tells none."""


def missing(settings: MilvusSettings, collection: Collection, mark: Mark) -> list[str]:
    """Why the job can't do without the collection, which is not there; what would create it."""
    what = f"{collection.where}: {collection.absent()}"
    if settings.schema_create_mode == "ignore":
        problems = settings.creation_problems()
        way = "" if problems else f"; this would create it: {_program(settings, mark)}"
        return [f"{what}; create it, or set schemaCreateMode to createIfNotExist{way}"]
    problems = uncreatable(settings, collection.connection, collection.version)
    return [f"{what} and can't be created: {p}" for p in problems]


def uncreatable(
    settings: MilvusSettings, connection: MilvusConnection, version: Version
) -> list[str]:
    """Why the collection can't be created on this server, asked before one is dropped for it."""
    problems = settings.creation_problems()
    if connection.is_file and not problems:
        return _lite_problems(settings)
    return problems or _too_new(settings, version)


def _program(settings: MilvusSettings, mark: Mark) -> str:
    """What creates the collection by pymilvus, marked, in one line of Python."""
    dynamic = settings.enable_dynamic_schema
    lines = [f"schema = client.create_schema(auto_id=False, enable_dynamic_field={dynamic})"]
    for name, type_name, options in field_options(settings):
        given = "".join(
            f", {k}={_type(v) if k == 'element_type' else repr(v)}" for k, v in options.items()
        )
        lines.append(f"schema.add_field({name!r}, {_type(type_name)}{given})")
    properties = {NAME: to_text(mark)}
    name = settings.collection
    lines.append(f"client.create_collection({name!r}, schema=schema, properties={properties!r})")
    return "; ".join(lines)


def _type(name: str) -> str:
    return f"DataType({CODES[name]})"


def mismatches(settings: MilvusSettings, info: CollectionInfo) -> list[str]:
    """Why the rows of this job don't fit the collection that is there; empty if they do."""
    where = f"collection {settings.collection!r}"
    out: list[str] = []
    for column in settings.column:
        field = info.field(column.name)
        if field is not None:
            out += [f"{where}: {p}" for p in _differences(column, field)]
    into = filled(settings, info)
    names = [f.name for f in info.fields]
    if not info.dynamic:
        out += [
            f"{where} has no field {name!r}{near(name, names)} (it has {', '.join(names)})"
            for name in into
            if name not in names
        ]
    for field in info.fields:
        if field.name in into and field.computed:
            out.append(f"{where} computes the field {field.name!r} itself; leave it out")
        if field.name in into or field.optional:
            continue
        out.append(
            f"{where} needs the field {field.name!r} ({field.type}), which this job does not fill; "
            "add it to column and columnMapping"
        )
    return [*out, *(f"{where} {p}" for p in _document_problems(settings, info, into))]


def _document_problems(
    settings: MilvusSettings, info: CollectionInfo, into: Mapping[str, str]
) -> Iterable[str]:
    if not settings.parent_key:
        return
    names = {column: name for name, column in into.items()}
    for column in (*settings.parent_key, CHUNK_INDEX):
        field = info.field(names.get(column, column)) if column in names else None
        kinds = INTEGERS if column == CHUNK_INDEX else ("VarChar", "String", *INTEGERS)
        if field is None:
            yield (
                f"has no field for column {column!r}, by which parentKey finds the chunks of a "
                "document; add it to column"
            )
        elif field.type not in kinds:
            yield (
                f"has {field.name!r} as {field.type}, and parentKey finds the chunks of a document "
                f"by {' or '.join(kinds)} there; use another field"
            )


def unable_to_trim(settings: MilvusSettings, version: Version) -> list[str]:
    """Why a server can't delete chunks by what names their document."""
    if not settings.parent_key or version is None or version >= (2, 3):
        return []
    return [
        f"the server is version {_dotted(version)}, and parentKey needs 2.3 or newer, which "
        "deletes by other fields than the primary key"
    ]


def _differences(column: MilvusColumn, field: FieldInfo) -> Iterable[str]:
    if column.type != field.type and (column.type, field.type) != ("VarChar", "String"):
        yield f"field {field.name!r} is a {field.type} there and a {column.type} in the job"
        return
    if column.is_vector and column.dimension and field.dimension != column.dimension:
        yield (
            f"field {field.name!r} has dimension {field.dimension} there and "
            f"{column.dimension} in the job; change dimension, or write into another collection"
        )
    if column.type == "Array" and column.element_type != field.element_type:
        yield (
            f"field {field.name!r} is an Array of {field.element_type} there and of "
            f"{column.element_type} in the job"
        )
    if column.primary_key and not field.primary:
        yield f"field {field.name!r} is not the primary key there, as the job has it"


def unmapped(settings: MilvusSettings) -> list[str]:
    """The columns of the job that nothing fills."""
    if settings.column_mapping is None:
        return []
    into = settings.sources()
    return [c.name for c in settings.column if c.name not in into and not c.auto_id]


def misplaced(settings: MilvusSettings, instead_of: str | None, info: CollectionInfo) -> list[str]:
    """Why the job can't name what is there as it does: by an alias, with a partition."""
    name = settings.collection
    if info.name != name and settings.schema_create_mode == "recreate":
        return [
            f"{name!r} is an alias of collection {info.name!r}, which would be dropped: name the "
            "collection itself, or create it anew by hand"
        ]
    if info.name != name and instead_of:
        return [f"--into {name}: this is an alias of collection {info.name!r}: name a new one"]
    if settings.schema_create_mode == "recreate" or not settings.partition:
        return []
    if any(f.partition_key for f in info.fields):
        return [f"collection {info.name!r} chooses partitions by a key; leave partition out"]
    return []


def misnamed(settings: MilvusSettings, collection: Collection) -> list[str]:
    """Why the alias can't be moved: it is the name of a collection."""
    alias, name = settings.alias, settings.collection
    if alias is None or collection.named(alias) != alias:
        return []
    return [
        f"alias {alias!r} is the name of a collection already, and can't be both: choose another "
        f"alias. Or fill {name!r} without moving one, then let it take that collection's place: "
        f"client.rename_collection({alias!r}, {alias + '_old'!r}) and "
        f"client.create_alias({name!r}, {alias!r})"
    ]


def notes(settings: MilvusSettings, info: CollectionInfo) -> list[str]:
    """What is not a fault, but may surprise people."""
    out = []
    if info.key.auto_id:
        out.append(
            f"collection {info.name!r} makes its own ids, so every row is inserted: "
            "a run that is repeated writes its rows twice"
        )
    elif settings.write_mode == "insert":
        out.append(
            "writeMode insert: a run that is repeated writes its rows twice; upsert would not"
        )
    if left := unmapped(settings):
        out.append(f"columnMapping fills nothing into {', '.join(left)}")
    return out


def _lite_problems(settings: MilvusSettings) -> list[str]:
    out = [
        f"Milvus Lite has no {c.type} (column {c.name!r}); use a Milvus server"
        for c in settings.column
        if c.type not in LITE_TYPES
    ]
    floats = [c.name for c in settings.column if c.type == "FloatVector"]
    if len(floats) > 1:
        out.append(f"Milvus Lite takes one FloatVector, not {', '.join(floats)}; use a server")
    return out


def _too_new(settings: MilvusSettings, version: Version) -> list[str]:
    """What a collection of these settings has and a server of this version hasn't.

    Some servers take it all the same, and leave it out or break off halfway.
    """
    if version is None:
        return []
    vectors = [c for c in settings.column if c.is_vector]
    asked = [(f"{c.type} (column {c.name!r})", _TYPES_SINCE.get(c.type)) for c in vectors]
    asked += [(f"nullable (column {c.name!r})", (2, 5)) for c in settings.column if c.nullable]
    if len(vectors) > 1:
        asked.append((f"more than one vector ({', '.join(c.name for c in vectors)})", (2, 4)))
    return [
        f"the server is version {_dotted(version)}, and {what} needs {_dotted(since)} or newer"
        for what, since in asked
        if since is not None and version < since
    ]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
