"""The names that others import: they work, each from one place, and the packages stay light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vecferry
from tests.code import MODULES, PAGES, ROOT, long_name, parsed
from vecferry.pipelines.registry import Registry

PUBLIC = {
    "vecferry": {
        "JobError", "JobEstimate", "JobPreview", "LoadedJob", "Rows", "RunResult", "VecferryError",
        "load",
    },
    "vecferry.io.elasticsearch": {
        "WriteToElasticsearch", "ElasticsearchSettings", "ElasticsearchConnection"
    },
    "vecferry.io.files": {
        "ReadFiles", "FilesSettings", "LocalConnection", "OssConnection", "S3Connection",
        "HdfsConnection", "GcsConnection",
    },
    "vecferry.io.hologres": {"WriteToHologres", "HologresSettings", "HologresConnection"},
    "vecferry.io.milvus": {"WriteToMilvus", "MilvusSettings", "MilvusConnection"},
    "vecferry.io.mysql": {"ReadFromMySQL", "MySqlSettings", "MySqlConnection"},
    "vecferry.io.mysql_cdc": {
        "ReadFromMySQLSnapshot", "ReadMySQLChanges", "MySqlCdcSettings",
    },
    "vecferry.io.odps": {"ReadFromOdps", "OdpsSettings", "OdpsConnection"},
    "vecferry.io.opensearch": {"WriteToOpenSearch", "OpenSearchSettings", "OpenSearchConnection"},
    "vecferry.io.paimon": {
        "ReadFromPaimon", "ReadPaimonChanges", "PaimonSettings", "PaimonConnection",
    },
    "vecferry.io.postgresql": {
        "ReadFromPostgres", "WriteToPostgres", "PostgresSettings", "PostgresWriterSettings",
        "PostgresConnection",
    },
    "vecferry.io.sink": {
        "SinkWriter", "BlockWriter", "Store", "BlockStore", "Record", "Block", "Outcome",
        "WriteLimits", "TooLargeError", "WRITTEN", "STALE", "rejected", "retry", "TargetBase",
        "AliasTarget", "Catalog", "AliasCatalog", "Described", "Encoder", "WriteTransform",
        "vector_field",
    },
    "vecferry.pipelines.cli": {"main"},
    "vecferry.transforms.embed": {"Embed", "EmbedSettings"},
    "vecferry.transforms.json_extract": {"ExtractJson", "JsonExtractSettings"},
    "vecferry.transforms.shape": {
        "DeduplicateRows", "DeduplicateSettings", "EditColumns", "EditSettings", "FilterRows",
        "FilterSettings",
    },
    "vecferry.transforms.text_split": {"SplitText", "TextSplitSettings"},
    "vecferry.testing": {
        "KindContract", "MarkContract", "MarkPlace", "ReconcileContract", "ReconcilePlace",
        "SinkContract", "SinkPlace",
        "SourceContract", "SourcePlace", "TransformerContract", "TransformerPlace",
    },
}  # fmt: skip
"""Packages that hand on names, and these names."""

MODULES_IN_THE_OPEN = {
    "vecferry.beam": {"OperatorTransform", "ReaderTransform"},
    "vecferry.errors": {
        "VecferryError", "JobError", "TransientError", "TerminalError", "FatalError"
    },
    "vecferry.kinds": {"Client", "ConnectionType", "Kind"},
    "vecferry.lazy": {"hands_on"},
    "vecferry.pipelines.beam_yaml": {
        "DeduplicateRows", "EditColumns", "Embed", "ExtractJson", "FilterRows", "ReadFiles",
        "ReadFromMySQL", "ReadFromOdps", "ReadFromPaimon",
        "ReadFromPostgres", "SplitText", "WriteToElasticsearch", "WriteToHologres", "WriteToMilvus",
        "WriteToOpenSearch", "WriteToPostgres",
    },
    "vecferry.io.sink.mark": {"from_json", "to_text"},
    "vecferry.io.sink.values": {"as_int", "bad", "checked", "encoded", "wrong_type"},
    "vecferry.pipelines.registry": {"Kind", "register", "register_connection", "kind_of", "load"},
    "vecferry.process": {"PROCESS"},
    "vecferry.rows": {"Change", "Reject", "INSERT", "UPDATE", "DELETE"},
    "vecferry.settings": {"Settings", "StepSettings", "Connection", "SecretText", "Maker"},
    "vecferry.steps": {
        "StepContext", "Counts", "Source", "Operator", "Transformer", "Target", "Plan", "Size"
    },
}  # fmt: skip
"""Modules that the pages tell others to import, and what from."""


def handed_on(path: Path) -> set[str]:
    """The names that a package hands on lazily, as it tells them when they are asked for."""
    calls = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.Dict)]
    return {key.value for call in calls for key in call.keys if isinstance(key, ast.Constant)}


def told_to_mypy(path: Path) -> set[str]:
    """The names that a package imports for type checkers only."""
    blocks = [n for n in parsed(path).body if isinstance(n, ast.If)]
    imports = [n for block in blocks for n in block.body if isinstance(n, ast.ImportFrom)]
    return {str(alias.asname) for node in imports for alias in node.names}


PACKAGES = [p for p in MODULES if p.name == "__init__.py" and "hands_on(" in p.read_text()]


def test_public_names_are_where_they_are_promised() -> None:
    """Each of them can be imported."""
    promised = {**PUBLIC, **MODULES_IN_THE_OPEN}
    missing = [
        f"{module}.{name}"
        for module, names in promised.items()
        for name in names
        if not hasattr(importlib.import_module(module), name)
    ]
    assert missing == []


def test_pages_import_what_there_is() -> None:
    """Every import of vecferry in a block of Python on a page, also where the block is not run."""
    missing = []
    for page in PAGES:
        for block in re.findall(
            r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        ):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vecferry"):
                    found = importlib.import_module(str(node.module))
                    missing += [
                        f"{page.name}: {node.module}.{alias.name}"
                        for alias in node.names
                        if not hasattr(found, alias.name)
                    ]
    assert missing == []


def test_packages_hand_on_what_is_promised_and_nothing_else() -> None:
    """A name that is added is added here, and to what type checkers see."""
    assert {long_name(path): handed_on(path) for path in PACKAGES} == PUBLIC
    assert {long_name(path): told_to_mypy(path) for path in PACKAGES} == PUBLIC


def test_settings_and_connection_come_from_where_the_transform_comes_from() -> None:
    """For every kind of vecferry's own."""
    known = Registry(entry_points=list)
    missing = []
    for kind in (kind for kinds in known.kinds().values() for kind in kinds):
        package, _, transform = str(kind.transform).partition(":")
        names = {transform, kind.settings.partition(":")[2]}
        if kind.step_type in known.connections():
            names.add(known.connections()[kind.step_type].settings.partition(":")[2])
        missing += [f"{package}.{name}" for name in names if name not in PUBLIC[package]]
    assert missing == []


def test_what_the_package_exports_is_frozen() -> None:
    """``from vecferry import *`` gives these names: one more is a promise, one less breaks code."""
    assert {*vecferry.__all__} == {*PUBLIC["vecferry"], "__version__"}
    assert all(hasattr(vecferry, name) for name in vecferry.__all__)


def test_the_page_of_transforms_names_every_class_of_settings() -> None:
    """Whoever writes a pipeline finds what to import: transforms, settings, connections."""
    page = (ROOT / "docs" / "beam.md").read_text()
    ends = [name for name in PUBLIC if name.startswith(("vecferry.io.", "vecferry.transforms."))]
    names = {name for end in ends if end != "vecferry.io.sink" for name in PUBLIC[end]}
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def test_an_unknown_name_of_a_package_is_an_attribute_error() -> None:
    """As of any module; `from … import` then says what is wrong."""
    with pytest.raises(ImportError, match="cannot import name 'WriteToMilvos'"):
        exec("from vecferry.io.milvus import WriteToMilvos")


def test_packages_import_nothing_until_a_name_is_asked_for() -> None:
    """All of them together: no settings, no Beam, no client."""
    packages = [package for package in PUBLIC if package != "vecferry.testing"]
    code = (
        f"import importlib, sys\nfor p in {packages!r}: importlib.import_module(p)\n"
        "print(*[m for m in ('apache_beam', 'pydantic', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
