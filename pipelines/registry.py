"""The kinds of steps: which settings, logic and transform stand behind a stepType.

Everything is named, not imported: checking a job imports no Beam and no client.
"""

from __future__ import annotations

import importlib
from typing import Any

from vecferry.errors import JobError, near
from vecferry.kinds import Kind as Kind

_FILE_SOURCES = {
    "file": ("local", "oss", "s3", "hdfs", "gcs"),
    "oss": ("oss", "s3", "local"),
    "s3": ("s3", "oss", "local"),
    "hdfs": ("hdfs", "local"),
    "gcs": ("gcs", "local"),
}
"""A folder stands in for each store, so that a job can be tried on a laptop unchanged."""


def load(name: str) -> Any:
    """What ``module:Name`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _files(step_type: str) -> Kind:
    return Kind(
        step_type,
        "reader",
        "vecferry.io.files.settings:FilesSettings",
        "vecferry.io.files.source:FileSource",
        "vecferry.io.files:ReadFiles",
        _FILE_SOURCES[step_type],
    )


_KINDS: dict[tuple[str, str], Kind] = {
    (kind.step_type, kind.role): kind
    for kind in (
        *map(_files, _FILE_SOURCES),
        Kind(
            "odps",
            "reader",
            "vecferry.io.odps.settings:OdpsSettings",
            "vecferry.io.odps.source:OdpsSource",
            "vecferry.io.odps:ReadFromOdps",
            ("odps",),
        ),
        Kind(
            "mysql",
            "reader",
            "vecferry.io.mysql.settings:MySqlSettings",
            "vecferry.io.mysql.source:MySqlSource",
            "vecferry.io.mysql:ReadFromMySQL",
            ("mysql",),
        ),
        Kind(
            "postgresql",
            "reader",
            "vecferry.io.postgresql.settings:PostgresSettings",
            "vecferry.io.postgresql.source:PostgresSource",
            "vecferry.io.postgresql:ReadFromPostgres",
            ("postgresql",),
        ),
        Kind(
            "json-extracting",
            "transformer",
            "vecferry.transforms.json_extract.settings:JsonExtractSettings",
            "vecferry.transforms.json_extract.extractor:JsonExtractor",
            "vecferry.transforms.json_extract:ExtractJson",
        ),
        Kind(
            "embedding-transformer",
            "transformer",
            "vecferry.transforms.embed.settings:EmbedSettings",
            "vecferry.transforms.embed.engine:Embedder",
            "vecferry.transforms.embed:Embed",
            _FILE_SOURCES["file"],
            source_key="imageDatasource",
            source_needed=False,
            takes=("vectorCache", "trustedEndpoints"),
        ),
        Kind(
            "milvus",
            "writer",
            "vecferry.io.milvus.settings:MilvusSettings",
            "vecferry.io.milvus.target:MilvusTarget",
            "vecferry.io.milvus:WriteToMilvus",
            ("milvus",),
        ),
        Kind(
            "hologres",
            "writer",
            "vecferry.io.hologres.settings:HologresSettings",
            "vecferry.io.postgresql.target:TableTarget",
            "vecferry.io.hologres:WriteToHologres",
            ("hologres", "postgresql"),
        ),
        Kind(
            "postgresql",
            "writer",
            "vecferry.io.postgresql.settings:PostgresWriterSettings",
            "vecferry.io.postgresql.target:TableTarget",
            "vecferry.io.postgresql:WriteToPostgres",
            ("postgresql",),
        ),
        Kind(
            "elasticsearch",
            "writer",
            "vecferry.io.elasticsearch.settings:ElasticsearchSettings",
            "vecferry.io.elasticsearch.target:ElasticsearchTarget",
            "vecferry.io.elasticsearch:WriteToElasticsearch",
            ("elasticsearch",),
        ),
        Kind(
            "opensearch",
            "writer",
            "vecferry.io.opensearch.settings:OpenSearchSettings",
            "vecferry.io.opensearch.target:OpenSearchTarget",
            "vecferry.io.opensearch:WriteToOpenSearch",
            ("opensearch",),
        ),
    )
}

_CONNECTIONS: dict[str, str] = {
    "elasticsearch": "vecferry.io.elasticsearch.settings:ElasticsearchConnection",
    "opensearch": "vecferry.io.opensearch.settings:OpenSearchConnection",
    "gcs": "vecferry.io.files.connections:GcsConnection",
    "hdfs": "vecferry.io.files.connections:HdfsConnection",
    "hologres": "vecferry.io.hologres.settings:HologresConnection",
    "local": "vecferry.io.files.connections:LocalConnection",
    "milvus": "vecferry.io.milvus.settings:MilvusConnection",
    "mysql": "vecferry.io.mysql.settings:MySqlConnection",
    "odps": "vecferry.io.odps.settings:OdpsConnection",
    "oss": "vecferry.io.files.connections:OssConnection",
    "postgresql": "vecferry.io.postgresql.settings:PostgresConnection",
    "s3": "vecferry.io.files.connections:S3Connection",
}


def register(kind: Kind) -> None:
    """Adds a stepType of your own, or replaces one; workers need nothing of it."""
    _KINDS[kind.step_type, kind.role] = kind


def register_connection(type_name: str, settings: str) -> None:
    """Adds a type of data source, its settings named as ``module:Class``."""
    _CONNECTIONS[type_name] = settings


def kinds() -> dict[str, tuple[Kind, ...]]:
    """All stepTypes, by name; one that reads and writes has two kinds."""
    names = sorted({name for name, _ in _KINDS})
    return {n: tuple(k for (name, _), k in _KINDS.items() if name == n) for n in names}


def kind_of(step_type: str, role: str = "") -> Kind:
    """The kind of a stepType, that of `role` where it has several.

    An unknown stepType is a JobError that names the nearest, or all of them.
    """
    known = kinds()
    if step_type in known:
        found = known[step_type]
        return next((k for k in found if k.role == role), found[0])
    raise JobError(
        f"stepType {step_type!r} is unknown{near(step_type, known)}; known are {', '.join(known)}"
    )


def connection_types() -> dict[str, str]:
    """All types of data sources with their settings, by name."""
    return dict(_CONNECTIONS)
