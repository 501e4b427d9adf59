"""The contract of transformers on all of ours that give a row for a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vecferry.steps import Operator, StepContext
from vecferry.testing import TransformerContract, TransformerPlace
from vecferry.transforms.embed import EmbedSettings
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.json_extract import JsonExtractSettings
from vecferry.transforms.json_extract.extractor import JsonExtractor
from vecferry.transforms.shape import DeduplicateSettings, EditSettings, FilterSettings
from vecferry.transforms.shape.deduplicating import Deduplicator
from vecferry.transforms.shape.editing import Editor
from vecferry.transforms.shape.filtering import Filter


class Fields(TransformerPlace):
    """Two fields of a JSON text."""

    settings = JsonExtractSettings.model_validate(
        {
            "column": [
                {"fromColumn": "line", "name": "id", "jsonPath": "$.id", "type": "LONG"},
                {"fromColumn": "line", "name": "title", "jsonPath": "$.title", "type": "STRING"},
            ]
        }
    )

    def operator(self) -> Operator:
        context = StepContext(step="Extract", step_type="json-extracting")
        return JsonExtractor(self.settings, None, context)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"line": json.dumps({"id": i, "title": f"title {i}"}), "more": [i]} for i in range(50)
        ]

    def bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        return [({"line": "{no json", "more": []}, "invalid-json")]


class TestJsonExtract(TransformerContract):
    """The step `json-extracting`."""

    @pytest.fixture
    def place(self):
        return Fields()


class Vectors(TransformerPlace):
    """Texts into vectors, in this process."""

    settings = EmbedSettings.model_validate(
        {
            "modelProvider": "local",
            "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
        }
    )

    def operator(self) -> Operator:
        context = StepContext(step="Embed", step_type="embedding-transformer")
        return Embedder(self.settings, None, context)

    def rows(self) -> list[dict[str, Any]]:
        return [{"id": i, "text": f"a walk along shore {i}"} for i in range(200)]

    def bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        return [({"id": 1, "text": ""}, "empty-text"), ({"id": 2, "text": None}, "empty-text")]


class TestEmbed(TransformerContract):
    """The step `embedding-transformer`, with the model that runs here."""

    @pytest.fixture
    def place(self):
        return Vectors()


class Condition(TransformerPlace):
    """A condition that all rows meet."""

    settings = FilterSettings(where="km >= 0 && title != ''")

    def operator(self) -> Operator:
        return Filter(self.settings, None, StepContext(step="Filter", step_type="filter"))

    def rows(self) -> list[dict[str, Any]]:
        return [{"km": i, "title": f"title {i}", "more": [i]} for i in range(50)]

    def bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        return [({"km": None, "title": "x"}, "null-value"), ({"km": 1}, "missing-column")]


class TestFilter(TransformerContract):
    """The step `filter`."""

    @pytest.fixture
    def place(self):
        return Condition()


class Rules(TransformerPlace):
    """Rules that make columns and change them."""

    settings = EditSettings.model_validate(
        {
            "rules": [
                {"operation": "trim", "column": "title"},
                {"operation": "digest", "column": "digest", "fromColumns": ["title", "km"]},
            ]
        }
    )

    def operator(self) -> Operator:
        return Editor(self.settings, None, StepContext(step="Edit", step_type="edit"))

    def rows(self) -> list[dict[str, Any]]:
        return [{"km": i, "title": f" title {i}", "more": [i]} for i in range(50)]

    def bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        return [({"km": 1, "title": 5}, "wrong-type"), ({"title": "x"}, "missing-column")]


class TestEdit(TransformerContract):
    """The step `edit`."""

    @pytest.fixture
    def place(self):
        return Rules()


class Once(TransformerPlace):
    """Rows that differ, or are changes."""

    settings = DeduplicateSettings(columns=("km",))

    def operator(self) -> Operator:
        context = StepContext(step="Deduplicate", step_type="deduplicate")
        return Deduplicator(self.settings, None, context)

    def rows(self) -> list[dict[str, Any]]:
        return [{"km": i, "more": [i]} for i in range(50)]


class TestDeduplicate(TransformerContract):
    """The step `deduplicate`, through which changes pass."""

    @pytest.fixture
    def place(self):
        return Once()
