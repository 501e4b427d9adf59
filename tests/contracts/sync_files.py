"""Files as the script of the contract of syncs: a row is a file, named by its id."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contracts.files import Place
from tests.contracts.sync import Script
from tests.io.files.stores.support import (
    FOLDER,
    gcs_place,
    gcs_source,
    hdfs_place,
    hdfs_source,
    oss_source,
    s3_place,
    s3_source,
)


class Files(Script):
    """JSON files of one text each, and one without rows, since a pattern must match something."""

    empty = "placeholder"
    type = "local"

    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """Few files a round."""
        return {
            "stepType": "file",
            "category": "reader",
            "name": "Read",
            "parameter": {
                "datasource": "Files",
                "object": "*",
                "fileFormat": "json",
                "column": [{"name": "id", "from": "fileName"}, "text"],
                "scanMode": "full-then-incremental",
                "roundFiles": least * chance.choice([1, 3, 10, 100]),
            },
        }

    def setting(self) -> dict[str, Any]:
        """Files are listed at once."""
        return {"pollSeconds": 0.1}

    def update(self, key: str, text: str) -> None:
        self.insert(key, text)

    def move(self, key: str, to: str, text: str) -> None:
        self.insert(to, text)
        self.delete(key)

    def truncate(self) -> None:
        for key in self.rows():
            self.delete(key)


class Folder(Files):
    """A folder. A file is written under another name, and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.folder.mkdir()
        (self.folder / self.empty).write_text("")
        self._part = folder / "part"

    def sources(self) -> dict[str, Any]:
        """The folder."""
        return {"Files": {"type": "local", "path": str(self.folder)}}

    def rows(self) -> dict[str, str]:
        """From the files."""
        return {
            path.name: json.loads(path.read_text())["text"]
            for path in self.folder.iterdir()
            if path.name != self.empty
        }

    def insert(self, key: str, text: str) -> None:
        self._part.write_text(json.dumps({"text": text}))
        self._part.rename(self.folder / key)

    def delete(self, key: str) -> None:
        (self.folder / key).unlink()


class Stored(Files):
    """Files of a store behind a service, in a folder of their own."""

    def __init__(self, kind: str) -> None:
        place, self._source = PLACES[kind]
        self._place = place()
        self._name = self._place.folder()
        self.folder = f"{FOLDER}/{self._name}"
        self._there: dict[str, str] = {}
        self._put(self.empty, "")

    def sources(self) -> dict[str, Any]:
        """The folder, with the keys of the server."""
        return {"Files": self._source(path=self.folder)}

    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """By the stepType of the store."""
        return {**super().reader(chance, least), "stepType": self._place.step_type}

    def rows(self) -> dict[str, str]:
        """As they were put."""
        return dict(self._there)

    def insert(self, key: str, text: str) -> None:
        self._put(key, json.dumps({"text": text}))
        self._there[key] = text

    def delete(self, key: str) -> None:
        self._place.delete(f"{self._name}/{key}")
        del self._there[key]

    def remove_all(self) -> None:
        """No file is left, and so no folder in a bucket."""
        self.truncate()
        self._place.delete(f"{self._name}/{self.empty}")

    def _put(self, key: str, content: str) -> None:
        self._place.put(f"{self._name}/{key}", content.encode())


PLACES: dict[str, tuple[Callable[[], Place], Callable[..., dict[str, Any]]]] = {
    "s3": (s3_place, s3_source),
    "oss": (lambda: s3_place("oss"), oss_source),
    "hdfs": (hdfs_place, hdfs_source),
    "gcs": (gcs_place, gcs_source),
}
