"""A folder and a job that follows it into memory, for tests; also a bucket in memory."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.contracts import sync_memory
from tests.contracts.folder import Papers, write_papers
from tests.contracts.sync import differences, run_here
from tests.contracts.sync_memory import held
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.io.files.connections import LocalConnection
from vecferry.io.files.followed import FollowedFiles
from vecferry.io.files.settings import FilesSettings
from vecferry.io.files.stores.base import FileInfo, Listed
from vecferry.io.files.stores.remote import Changed, RemoteStore
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.job.vectors import with_vectors_kept
from vecferry.pipelines.run.at_position import SourceRows, verify_sync
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.verify import Verified
from vecferry.positions.folder import FolderPlace
from vecferry.positions.requests import Request
from vecferry.positions.store import Positions
from vecferry.steps import ReadOptions, StepContext


class Desk:
    """A folder, and a job that follows it into memory."""

    def __init__(
        self,
        folder: Path,
        endpoint: EndpointServer,
        papers: Papers,
        *,
        versions: bool = True,
        owns: bool = True,
        **setting: Any,
    ) -> None:
        self.papers, self.endpoint = papers, endpoint
        self.name = uuid.uuid4().hex
        parameter = {
            "name": self.name,
            "key": "chunk_id",
            "column": ["chunk_id", "path", "chunk_index", "chunk", "vector"],
            "parentKey": ["path"],
            "versions": versions,
            "ownsTarget": owns,
        }
        writer = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
        self.job, self.sources = write_papers(folder, papers, writer, endpoint.url, {}, **setting)
        self.place = Positions(FolderPlace(folder / "positions"), "papers")

    def run(self, **options: Any) -> Report:
        """One run in this process."""
        return run_here(self.job, sync_memory.KINDS, sources=self.sources, **options)

    def set(self, **parameter: Any) -> None:
        """Changes the reader."""
        job = json.loads(self.job.read_text())
        job["steps"][0]["parameter"].update(parameter)
        self.job.write_text(json.dumps(job))

    def verify(self) -> Verified:
        """How the target compares with the files, as `vecferry verify` tells it."""
        resolved = read_and_resolve(str(self.job), data_sources=str(self.sources))
        resolved = with_vectors_kept(resolved, here=True)
        logic = JobLogic(resolved, f"verify-{uuid.uuid4().hex[:6]}", resumed=True)
        try:
            return verify_sync(SourceRows(resolved, logic), self.place, lambda words: None)
        finally:
            logic.close()

    def repair(self) -> str:
        """What a repair says that is asked for, and carried out by a run."""
        asked = self.place.requests.ask(Request(kind="repair", asked_by="a test"))
        assert self.run().state == "DONE"
        return self.place.requests.answers(asked)[-1].text

    def wrong(self) -> list[str]:
        """Where the target differs from a fresh load."""
        there = held(self.name).there()
        found = {key: (row["chunk"], row["vector"]) for key, row in there.items()}
        return differences(self.papers.expected(), found)


def source_of(folder: Path, papers: Papers, **given: Any) -> FollowedFiles:
    """The source of a folder alone, for a writer of rows."""
    parameter = {**papers.reader(3)["parameter"], **given}
    context = StepContext(step="Read", step_type="file", read=ReadOptions(id_columns=("chunk_id",)))
    connection = LocalConnection(path=str(papers.folder))
    source = FollowedFiles(FilesSettings.model_validate(parameter), connection, context)
    source.keep_in(lambda: FolderPlace(folder / "positions"))
    return source


class Objects(RemoteStore):
    """A bucket in memory, which reads the version that was listed, or none."""

    reads_one_version = True

    def __init__(self, there: dict[str, tuple[bytes, str]]) -> None:
        super().__init__("objects", "", "memory://bucket", 1.0)
        self.there = there

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        for path in sorted(self.there):
            if path.startswith(head):
                yield path, self._stat(path)

    def _stat(self, path: str) -> FileInfo:
        if path not in self.there:
            raise FileNotFoundError(path)
        data, tag = self.there[path]
        return FileInfo(path, len(data), tag, mark="noon")

    def _fetch(self, file: FileInfo, start: int, end: int) -> bytes:
        if file.path not in self.there:
            raise FileNotFoundError(file.path)
        data, tag = self.there[file.path]
        if tag != file.version:
            raise Changed
        return data[start:end]

    def _has_root(self) -> bool:
        return bool(self.there)


class Disk:
    """The disk of a folder: it can be away, with a folder of no files in its place or without."""

    def __init__(self, folder: Path, *, empty: bool) -> None:
        self.folder, self.empty = folder, empty
        self.parked = folder.with_name("parked")

    def leave(self) -> None:
        """It is away."""
        self.folder.rename(self.parked)
        if self.empty:
            self.folder.mkdir()

    def come_back(self) -> None:
        """Its files are as they were."""
        if self.empty:
            self.folder.rmdir()
        self.parked.rename(self.folder)
