"""A job with a `mapping` as the job with steps that it stands for.

Bodies of connector, pipeline and index are read from files, from the job itself, or from the
server. What can be asked of nobody but a server is asked there: a key of a table, a pipeline.

Apart from `vecferry.pipelines.autoetl.resolve` because it asks servers, and knows no command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from vecferry.errors import JobError, VecferryError
from vecferry.pipelines.autoetl.bodies import Document, body_of, is_file
from vecferry.pipelines.autoetl.connectors import endpoint_of
from vecferry.pipelines.autoetl.ingest import default_pipeline, dimension_of, ingest_of
from vecferry.pipelines.autoetl.jobs import Parts, Vectors, job_of
from vecferry.pipelines.autoetl.mappings import TableMapping, by_map, by_table, column_names
from vecferry.pipelines.autoetl.server import Definitions, opened_definitions
from vecferry.pipelines.autoetl.views import by_view
from vecferry.pipelines.job.datasources import DataSources
from vecferry.pipelines.job.mapping import MappingSettings
from vecferry.pipelines.job.placeholders import fill
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import load
from vecferry.settings import require_pattern

_BODIES = ("connector", "pipeline", "indexBody")
_DATABASE = "vecferry.io.mysql.client:MySqlDatabase"


class _Sources:
    """The servers of a job, asked when something is needed of them."""

    def __init__(self, sources: DataSources, settings: MappingSettings) -> None:
        self._sources, self._settings = sources, settings
        self._definitions: Definitions | None = None

    @property
    def definitions(self) -> Definitions:
        """The server of the target."""
        if self._definitions is None:
            self._definitions = opened_definitions(self._sources, self._settings.target)
        return self._definitions

    def key_of(self, table: str) -> tuple[str, ...]:
        """The primary key of a table, as the database tells it."""
        name = self._settings.source
        connection, _ = self._sources.get(name, ("mysql",), "mapping.source")
        try:
            database = load(_DATABASE)(connection, quick=True)
            try:
                found = database.table(table)
            finally:
                database.close()
        except JobError:
            raise
        except VecferryError as e:
            raise JobError(
                f"the primary key of {table} can't be asked for: {e}: correct the data source "
                f"{name!r}, or name the columns of the id as key"
            ) from e
        if not found.key:
            raise JobError(
                f"table {found.title}: it has no primary key, and no unique one without nulls: "
                "add one, for documents need an id, or name columns as key"
            )
        return tuple(column.name for column in found.key)

    def trusted(self) -> list[str] | None:
        """The server's own list of endpoints; None where it has none, or tells none."""
        with contextlib.suppress(JobError):
            return self.definitions.trusted()
        return None

    def close(self) -> None:
        """Ends the connections."""
        if self._definitions is not None:
            self._definitions.close()


def expanded(
    raw: Document,
    sources: DataSources,
    values: Mapping[str, str],
    written: dict[str, str] | None = None,
) -> tuple[Document, list[str]]:
    """The job that a document with `mapping` stands for, and warnings.

    Placeholders of the mapping are filled from `values`; all others stay. Raises JobError.
    """
    settings, warnings = _settings(raw, values, written)
    servers = _Sources(sources, settings)
    try:
        job = job_of(_parts(raw, settings, servers))
    finally:
        servers.close()
    rest = {name: value for name, value in raw.items() if name not in ("mapping", "steps")}
    own = rest.get("setting") or {}
    setting = {**job["setting"], **own} if isinstance(own, dict) else own
    if "trustedEndpoints" in job["setting"] and isinstance(setting, dict):
        trusted, more = _readable(job["setting"]["trustedEndpoints"])
        given = setting["trustedEndpoints"]
        others = given if isinstance(given, list) and "trustedEndpoints" in own else []
        setting["trustedEndpoints"] = list(dict.fromkeys([*trusted, *others]))
        warnings += more
    return {**job, **rest, "steps": job["steps"], "setting": setting}, warnings


def _readable(patterns: list[str]) -> tuple[list[str], list[str]]:
    """The patterns of a server, which are Java's, that mean the same here; warnings of others."""
    good, warnings = [], []
    for pattern in patterns:
        try:
            require_pattern(pattern)
        except ValueError as e:
            warnings.append(f"trusted endpoints of the server: {e}; it trusts nothing here")
        else:
            good.append(pattern)
    return good, warnings


def _settings(
    raw: Document, values: Mapping[str, str], written: dict[str, str] | None
) -> tuple[MappingSettings, list[str]]:
    given = raw["mapping"]
    if not isinstance(given, dict):
        raise JobError("mapping must be an object of keys and values: see docs/autoetl.md")
    bodies = {n: v for n, v in given.items() if n in _BODIES and isinstance(v, dict)}
    others = {n: v for n, v in given.items() if n not in bodies}
    filled, problems = fill(others, values, "mapping", written)
    settings, more = validate(MappingSettings, {**filled, **bodies}, "mapping")
    if settings is None or problems:
        raise JobError(problems + more)
    return settings, unknown_keys(settings, "mapping")


def _parts(raw: Document, settings: MappingSettings, servers: _Sources) -> Parts:
    mapping = _mapping(settings)
    steps = raw.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise JobError('steps must be a list of objects; write "steps": [{"stepType": …}, …]')
    if not mapping.keys and not _has_key(steps):
        keys = servers.key_of(mapping.table_name)
        mapping = with_keys(mapping, keys)
    vectors = pipeline = None
    if settings.embed == "here":
        vectors = _vectors(settings, mapping, servers)
    elif settings.connector is not None:
        raise JobError("mapping: embed: server leaves the connector to the server: leave it out")
    elif isinstance(settings.pipeline, str) and not is_file(settings.pipeline):
        pipeline = settings.pipeline
    return Parts(
        source=settings.source,
        target=settings.target,
        mapping=mapping,
        vectors=vectors,
        index_body=settings.index_body,
        pipeline=pipeline,
        steps=steps,
    )


def _mapping(settings: MappingSettings) -> TableMapping:
    if settings.fields_ is not None:
        return by_map(settings.fields_, settings.keys or "")
    if settings.table is not None:
        columns, keys = settings.columns or "", settings.key or ""
        return by_table(settings.table, settings.index or "", columns, keys)
    mapping = by_view(settings.view or "")
    if settings.key is None:
        return mapping
    if mapping.keys:
        raise JobError("mapping: the view has a PRIMARY KEY, and key is given: leave one out")
    return with_keys(mapping, tuple(column_names(settings.key, "mapping.key")))


def with_keys(mapping: TableMapping, keys: tuple[str, ...]) -> TableMapping:
    """The mapping whose documents have an id of these columns."""
    return TableMapping(
        mapping.index, mapping.database, mapping.table, mapping.items, keys, mapping.where
    )


def _has_key(steps: list[Any]) -> bool:
    """Whether the writer of the job says itself what its id is."""
    return any("primaryKeyInfo" in (step.get("parameter") or {}) for step in steps)


def _vectors(settings: MappingSettings, mapping: TableMapping, servers: _Sources) -> Vectors | None:
    """What the job embeds itself; None where neither connector nor pipeline is named."""
    if settings.connector is None and settings.pipeline is None:
        return None
    index = None if settings.index_body is None else body_of(settings.index_body, "index")
    where, pipeline = _pipeline(settings, index, servers)
    ingest = ingest_of(pipeline, where)
    if settings.connector is not None:
        shown = settings.connector if isinstance(settings.connector, str) else "mapping.connector"
        connector = body_of(settings.connector, "connector")
    else:
        shown, connector = _connector_of(ingest.model_id, where, servers)
    if index is None:
        with contextlib.suppress(JobError):
            index = servers.definitions.index(mapping.index)
    found = [dimension_of(index or {}, field) for field in ingest.field_map.values()]
    known = {dimension for dimension in found if dimension is not None}
    if len(known) > 1:
        raise JobError(
            f"{where}: its vector fields have {' and '.join(map(str, sorted(known)))} dimensions, "
            "and one model makes them all: mend the index"
        )
    return Vectors(
        endpoint=endpoint_of(connector, shown),
        field_map=ingest.field_map,
        dimension=next(iter(known), None),
        trusted=servers.trusted(),
    )


def _pipeline(
    settings: MappingSettings, index: Document | None, servers: _Sources
) -> tuple[str, Document]:
    """What messages call the pipeline, and its body."""
    given = settings.pipeline
    if given is None:
        given = default_pipeline(index or {})
        if given is None:
            raise JobError(
                "mapping: a connector is given, and nothing says which fields are embedded: name "
                "the ingest pipeline as pipeline (--pipeline)"
            )
    elif isinstance(given, dict):
        return "mapping.pipeline", given
    elif is_file(given):
        return given, body_of(given, "pipeline")
    definitions = servers.definitions
    found = definitions.pipeline(given)
    if found is None:
        raise JobError(
            f"{definitions.where}: ingest pipeline {given!r} does not exist: name one of the "
            "server, or a file that ends with .json"
        )
    return f"pipeline {given!r}", found


def _connector_of(model_id: str, where: str, servers: _Sources) -> tuple[str, Document]:
    """The connector of a model that the server holds, and what messages call it."""
    definitions = servers.definitions
    model = definitions.model(model_id)
    if model is None:
        raise JobError(
            f"{where}: its model {model_id!r} is not on {definitions.where}: correct model_id, or "
            "name the connector (--connector)"
        )
    inline = model.get("connector")
    if isinstance(inline, dict):
        return f"the connector of model {model_id!r}", inline
    connector_id = model.get("connector_id")
    if connector_id is None:
        raise JobError(
            f"{where}: its model {model_id!r} runs on the server and calls no endpoint: embed: "
            "server leaves it to the server"
        )
    found = definitions.connector(str(connector_id))
    if found is None:
        raise JobError(
            f"{definitions.where}: connector {connector_id!r} of model {model_id!r} can't be "
            "read: give this user the right, or name the connector (--connector)"
        )
    return f"connector {found.get('name')!r}", found
