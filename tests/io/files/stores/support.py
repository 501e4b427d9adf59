"""The stores that file tests run on: real servers, each with a folder for tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.files import Place
from tests.services.gcs import Gcs
from tests.services.hdfs import Hdfs
from tests.services.server import running
from tests.services.versitygw import ACCESS_KEY, REGION, SECRET_KEY, Versitygw
from vecferry.io.files.connections import (
    GcsConnection,
    HdfsConnection,
    LocalConnection,
    OssConnection,
    S3Connection,
)

FOLDER = "tests/in"
STORES = [
    "local",
    *(pytest.param(name, marks=pytest.mark.service) for name in ("s3", "oss", "hdfs", "gcs")),
]
"""Each store, as a parameter of a fixture that gives `place_in` it."""


@contextmanager
def buckets_have_names() -> Iterator[None]:
    """Makes ``bucket.localhost`` known, as DNS makes a virtual host known elsewhere."""
    ask = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **more: Any) -> Any:
        known = isinstance(host, str) and host.endswith(".localhost")
        return ask("127.0.0.1" if known else host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", answer)
        yield


def keys(**more: Any) -> dict[str, Any]:
    """The bucket of the S3 server, as a data source says it."""
    own = {"accessKeyId": ACCESS_KEY, "accessKeySecret": SECRET_KEY, "region": REGION}
    return {"bucket": Versitygw.bucket, "path": FOLDER, **own, **more}


def s3_source(**more: Any) -> dict[str, Any]:
    """A data source of the S3 server, path style."""
    return keys(**{"type": "s3", "endpoint": running(Versitygw).url, "pathStyle": True, **more})


def oss_source(**more: Any) -> dict[str, Any]:
    """A data source of the same server as OSS wants it: the bucket is a virtual host."""
    return keys(**{"type": "oss", "endpoint": running(Versitygw).virtual_url, **more})


def hdfs_source(**more: Any) -> dict[str, Any]:
    """A data source of the HDFS, for a user who is not its superuser."""
    return {
        "type": "hdfs", "endpoint": running(Hdfs).url, "user": "alice", "path": FOLDER, **more
    }  # fmt: skip


def gcs_source(**more: Any) -> dict[str, Any]:
    """A data source of the emulator."""
    return {
        "type": "gcs", "endpoint": running(Gcs).url, "bucket": Gcs.bucket, "path": FOLDER, **more
    }  # fmt: skip


def s3_place(step_type: str = "s3") -> Place:
    """The bucket, by its own address or as a virtual host of OSS."""
    client = running(Versitygw).client()
    own = {"Bucket": Versitygw.bucket}
    connection = (
        S3Connection.model_validate(s3_source())
        if step_type == "s3"
        else OssConnection.model_validate(oss_source())
    )
    return Place(
        connection,
        lambda path, data: client.put_object(Key=f"{FOLDER}/{path}", Body=data, **own),
        lambda path: client.delete_object(Key=f"{FOLDER}/{path}", **own),
        step_type,
    )


def hdfs_place() -> Place:
    """Files that belong to the superuser, and that all may read."""
    server = running(Hdfs)
    return Place(
        HdfsConnection.model_validate(hdfs_source()),
        lambda path, data: server.put(f"{FOLDER}/{path}", data),
        lambda path: server.delete(f"{FOLDER}/{path}"),
        "hdfs",
    )


def gcs_place() -> Place:
    """Objects of the emulator."""
    bucket = running(Gcs).client().bucket(Gcs.bucket)
    return Place(
        GcsConnection.model_validate(gcs_source()),
        lambda path, data: bucket.blob(f"{FOLDER}/{path}").upload_from_string(data),
        lambda path: bucket.blob(f"{FOLDER}/{path}").delete(),
        "gcs",
    )


def local_place(folder: Path) -> Place:
    """A folder of this machine."""

    def put(path: str, data: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    connection = LocalConnection(path=str(folder))
    return Place(connection, put, lambda path: (folder / path).unlink())


@contextmanager
def place_in(store: str, folder: Path) -> Iterator[Place]:
    """A place in one of `STORES`; `folder` is for the local one."""
    makers = {"local": lambda: local_place(folder), "hdfs": hdfs_place, "gcs": gcs_place}
    with buckets_have_names():
        yield makers[store]() if store in makers else s3_place(store)
