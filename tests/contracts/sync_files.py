"""Files as the script of the contract of syncs: a row is a file, named by its id."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.contracts.sync import Script
from tests.services.server import running
from tests.services.versitygw import ACCESS_KEY, REGION, SECRET_KEY, Versitygw


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


class Bucket(Files):
    """A folder of a bucket of its own."""

    def __init__(self, name: str) -> None:
        self._server = running(Versitygw)
        self._client, self._bucket = self._server.client(), self._server.bucket
        self._name = name
        self._put(self.empty, "")

    def sources(self) -> dict[str, Any]:
        """With the keys of the server."""
        source = {
            "type": "s3",
            "endpoint": self._server.url,
            "region": REGION,
            "bucket": self._bucket,
            "path": self._name,
            "accessKeyId": ACCESS_KEY,
            "accessKeySecret": SECRET_KEY,
            "pathStyle": True,
        }
        return {"Files": source}

    def rows(self) -> dict[str, str]:
        """From the objects."""
        given = {"Bucket": self._bucket, "Prefix": f"{self._name}/"}
        found = self._client.list_objects_v2(**given).get("Contents", ())
        names = [one["Key"].rpartition("/")[2] for one in found]
        return {name: self._get(name) for name in names if name != self.empty}

    def insert(self, key: str, text: str) -> None:
        self._put(key, json.dumps({"text": text}))

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=f"{self._name}/{key}")

    def _put(self, key: str, content: str) -> None:
        body = content.encode()
        self._client.put_object(Bucket=self._bucket, Key=f"{self._name}/{key}", Body=body)

    def _get(self, key: str) -> str:
        found = self._client.get_object(Bucket=self._bucket, Key=f"{self._name}/{key}")
        return str(json.loads(found["Body"].read())["text"])
