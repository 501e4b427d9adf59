"""A sync of a scripted table into memory, in a folder of its own: what its tests begin with."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

from tests.contracts import sync_memory
from tests.contracts.sync import Scripted, differences, run_here, write_job
from tests.contracts.sync_memory import Held, held
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines.run.report import Report
from vecferry.positions.folder import FolderPlace
from vecferry.positions.store import Positions


class Place:
    """A job of a scripted table into a target in memory, in a folder of its own."""

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.script = Scripted(folder / "table")
        self.name = uuid.uuid4().hex
        self.writer: dict[str, Any] = {"column": ["id", "text", "vector"], "name": self.name}
        self.reader: dict[str, Any] = {"parts": 1, "roundRows": 100, "streams": 1}
        self.setting: dict[str, Any] = {}

    @property
    def held(self) -> Held:
        """What the target holds."""
        return held(self.name)

    def insert(self, *keys: str) -> None:
        """New rows."""
        for key in keys:
            self.script.insert(key, f"text of {key}")

    def job(self) -> Path:
        """The job's file."""
        writer = {
            "stepType": "held",
            "category": "writer",
            "name": "Write",
            "parameter": self.writer,
        }
        path = write_job(
            self.folder,
            self.script,
            writer,
            self.endpoint.url,
            random.Random(1),
            **self.setting,
        )
        job = json.loads(path.read_text())
        job["steps"][0]["parameter"] |= self.reader
        path.write_text(json.dumps(job))
        return path

    def run(self, on_step: Any = lambda step: None, **options: Any) -> Report:
        """Carries out the sync."""
        kinds = (*self.script.kinds(), *sync_memory.KINDS)
        return run_here(self.job(), kinds, on_step, **options)

    def differences(self) -> list[str]:
        """How the target differs from the table."""
        found = {k: (row["text"], row["vector"]) for k, row in self.held.there().items()}
        return differences(self.script.rows(), found)

    @property
    def positions(self) -> Positions:
        """What is stored."""
        return Positions(FolderPlace(self.folder / "positions"), "kept")

    def position(self) -> dict[str, Any] | None:
        """The place of the newest position."""
        stored = self.positions.load()
        return stored and stored.position and stored.position.at
