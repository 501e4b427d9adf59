"""A folder that somebody edits at random, and what a target ought to hold of it afterwards.

Documents are JSON files of one text each, which the job splits. Tables are CSV files of a few rows.
Whatever breaks a sync off, the target comes to equal a fresh load, chunk by chunk. No distinct
chunk is paid for twice, but for those that were under way when a process was killed.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.contracts.sync import embed
from tests.contracts.sync_stores import StorePlace
from vecferry.rows import Change
from vecferry.steps import StepContext
from vecferry.transforms.text_split import TextSplitSettings
from vecferry.transforms.text_split.splitter import Splitter

SPLIT = {"sourceColumnName": "text", "chunkSize": 40}
EDITS = ("grow", "shrink", "move", "delete", "rename", "reorder", "new", "touch")


class Papers:
    """Files of a folder: documents of paragraphs. A file is written beside it, and renamed."""

    kind = "json"

    def __init__(self, folder: Path, chance: random.Random, count: int) -> None:
        self.folder, self.chance = folder / "papers", chance
        self.folder.mkdir()
        self._part = folder / "part"
        self._names = 0
        self.seen: set[str] = set()
        for _ in range(count):
            self._write(self._name(), self._paragraphs(chance.randrange(1, 6)))

    def edit(self, times: int = 1) -> None:
        """So many edits, of any kind."""
        for _ in range(times):
            self._one(self.chance.choice(EDITS))

    def expected(self) -> dict[str, str]:
        """What a fresh load writes: the text of each chunk by its id."""
        return dict(self.chunks())

    def chunks(self) -> Iterator[tuple[str, str]]:
        """All chunks that the files have now."""
        context = StepContext(step="Split", step_type="text-splitting", whole_documents=True)
        splitter = Splitter(TextSplitSettings.model_validate(SPLIT), None, context)
        for path in self.paths():
            row = Change({"path": path, "text": self.text(self.read(path))}, origin=path)
            for chunk, _ in splitter.process(row):
                if isinstance(chunk, Change) and chunk.get("chunk_count"):
                    yield chunk["chunk_id"], chunk["chunk"]

    def paths(self) -> list[str]:
        """The files, within the folder."""
        found = (p for p in self.folder.rglob("*") if p.is_file())
        return sorted(p.relative_to(self.folder).as_posix() for p in found)

    def read(self, path: str) -> list[str]:
        """The paragraphs of a file."""
        told: list[str] = json.loads((self.folder / path).read_text())["text"].split("\n\n")
        return told

    def text(self, parts: list[str]) -> str:
        """The document of some paragraphs."""
        return "\n\n".join(parts)

    def content(self, parts: list[str]) -> str:
        """The file of some paragraphs."""
        return json.dumps({"text": self.text(parts)})

    def reader(self, round_files: int) -> dict[str, Any]:
        """The reader of the folder."""
        column: list[Any] = [{"name": "path", "from": "fileName"}, *self.columns()]
        parameter = {
            "datasource": "Papers",
            "object": "**",
            "fileFormat": self.kind,
            "column": column,
            "scanMode": "full-then-incremental",
            "roundFiles": round_files,
        }
        return {"stepType": "file", "category": "reader", "name": "Read", "parameter": parameter}

    def columns(self) -> list[Any]:
        """The columns of a row but for its path."""
        return ["text"]

    def steps(self, endpoint: str) -> list[dict[str, Any]]:
        """What stands between reader and writer."""
        split = {"stepType": "text-splitting", "category": "flatmap", "name": "Split"}
        return [{**split, "parameter": SPLIT}, _embedding(endpoint, "chunk")]

    def source(self) -> dict[str, Any]:
        """The data source of the reader."""
        return {"Papers": {"type": "local", "path": str(self.folder)}}

    def _one(self, kind: str) -> None:
        chance, paths = self.chance, self.paths()
        if kind == "new" or len(paths) < 2:
            self._write(self._name(), self._paragraphs(chance.randrange(1, 6)))
            return
        path = chance.choice(paths)
        parts = self.read(path)
        if kind == "grow":
            parts[chance.randrange(len(parts) + 1) :] = self._paragraphs(chance.randrange(1, 4))
        elif kind == "shrink":
            parts = parts[: max(1, len(parts) // 2)]
        elif kind == "reorder":
            chance.shuffle(parts)
        elif kind == "delete":
            (self.folder / path).unlink()
            return
        elif kind in ("move", "rename"):
            other = self._name() if kind == "rename" else chance.choice(paths)
            (self.folder / other).parent.mkdir(exist_ok=True)
            os.rename(self.folder / path, self.folder / other)
            self._remember(self.read(other))
            return
        self._write(path, parts)

    def _name(self) -> str:
        self._names += 1
        folder = self.chance.choice(["", "a/", "b/", "b-c/"])
        return f"{folder}d{self._names}.{self.kind}"

    def _paragraphs(self, count: int) -> list[str]:
        return [f"Paragraph {self.chance.randrange(10**9)} of many." for _ in range(count)]

    def _write(self, path: str, parts: list[str]) -> None:
        self._part.write_text(self.content(parts))
        (self.folder / path).parent.mkdir(exist_ok=True)
        os.rename(self._part, self.folder / path)
        self._remember(parts)

    def _remember(self, parts: list[str]) -> None:
        self.seen.update(parts)


class Tables(Papers):
    """Files of rows: each paragraph is a row of a CSV file, with an id of its own beside it."""

    kind = "csv"

    def chunks(self) -> Iterator[tuple[str, str]]:
        """A row by its number."""
        for path in self.paths():
            for number, text in enumerate(self.read(path)):
                yield f"{path}#{number}", text

    def read(self, path: str) -> list[str]:
        """The texts of the rows."""
        lines = (self.folder / path).read_text().splitlines()
        return [line.partition(",")[2] for line in lines]

    def content(self, parts: list[str]) -> str:
        """A line for each."""
        return "".join(f"{part[10:19]},{part}\n" for part in parts)

    def columns(self) -> list[Any]:
        """By their places."""
        return [{"name": "own", "index": 0}, {"name": "chunk", "index": 1}]

    def steps(self, endpoint: str) -> list[dict[str, Any]]:
        """The embedding alone."""
        return [_embedding(endpoint, "chunk")]


def _embedding(endpoint: str, column: str) -> dict[str, Any]:
    step = embed(endpoint)
    step["parameter"]["embeddingColumns"]["sourceColumnNames"] = [column]
    return step


NUMBERS = {"postgresql": "bigint", "milvus": "Int64"}
"""The type of whole numbers, where it is not ``long``."""


def chunk_writer(store: StorePlace) -> dict[str, Any]:
    """The writer of chunks into a store, whose fields ``id`` and ``text`` hold chunks."""
    writer = store.writer()
    parameter = writer["parameter"]
    columns = {column["name"]: column for column in parameter["column"]}
    path = {**columns["id"], "name": "path"}
    path.pop("primaryKey")
    number = {"name": "chunk_index", "type": NUMBERS.get(writer["stepType"], "long")}
    mapping = {"id": "chunk_id", "text": "chunk", "vector": "vector"}
    mapping |= {"path": "path", "chunk_index": "chunk_index"}
    parameter |= {
        "column": [*parameter["column"], path, number],
        "columnMapping": [
            {"sourceColName": column, "dstColName": field} for field, column in mapping.items()
        ],
        "parentKey": ["path"],
    }
    return writer


def write_papers(
    folder: Path,
    papers: Papers,
    writer: dict[str, Any],
    endpoint: str,
    sources: dict[str, Any],
    *,
    round_files: int = 7,
    **setting: Any,
) -> tuple[Path, Path]:
    """The file of a job that follows `papers`, and that of its data sources."""
    job = {
        "type": "job",
        "version": "2.0",
        "name": "papers",
        "steps": [papers.reader(round_files), *papers.steps(endpoint), writer],
        "setting": {
            "positions": str(folder / "positions"),
            "vectorCache": {"uri": f"sqlite:///{folder}/vectors.sqlite"},
            "pauseSeconds": 0,
            "pollSeconds": 0.1,
            "errorLimit": {"record": 0},
            **setting,
        },
    }
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "sources.json").write_text(json.dumps({**papers.source(), **sources}))
    return folder / "job.json", folder / "sources.json"
