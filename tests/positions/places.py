"""Places of positions on real servers, named so that another process can open the same one.

Modules are imported where they are needed, as many processes are started that need few of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from vecferry.positions.place import Place
from vecferry.positions.store import Positions

KINDS = ("folder", "redis", "s3", "oss", "gcs", "hdfs")
SERVICES = KINDS[1:]
JOB = "follow"


@contextmanager
def named(kind: str, folder: Path) -> Iterator[str]:
    """The name of an empty place of that kind: JSON that `opened` takes, in any process."""
    from tests.io.files.stores.oss_front import OssFront
    from tests.io.files.stores.support import buckets_have_names, keys, s3_source
    from tests.services.fake_gcs import FakeGcs
    from tests.services.hdfs import Hdfs
    from tests.services.redis_server import RedisServer
    from tests.services.server import running

    own = f"positions/{uuid4().hex}"
    with ExitStack() as stack:
        told: dict[str, Any]
        match kind:
            case "folder":
                told = {"path": str(folder / own)}
            case "redis":
                told = {"uri": running(RedisServer).uri, "name": own}
            case "s3":
                told = s3_source(path=own)
            case "oss":
                stack.enter_context(buckets_have_names())
                front = stack.enter_context(OssFront())
                told = keys(type="oss", endpoint=front.url, path=own)
            case "gcs":
                server = running(FakeGcs)
                told = {"type": "gcs", "endpoint": server.url, "bucket": server.bucket, "path": own}
            case _:
                hdfs = running(Hdfs)
                hdfs.call("PUT", "positions", op="MKDIRS", permission="1777")
                hdfs.call("PUT", "positions", op="SETPERMISSION", permission="1777")
                told = {"type": "hdfs", "endpoint": hdfs.url, "user": "alice", "path": own}
        yield json.dumps({"kind": kind, **told})


@contextmanager
def opened(name: str, **pace: float) -> Iterator[Place]:
    """The place of that name, with its own pace but for what is said."""
    told = json.loads(name)
    with ExitStack() as stack:
        place: Any
        match kind := told.pop("kind"):
            case "folder":
                from vecferry.positions.folder import FolderPlace

                place = FolderPlace(told["path"])
            case "redis":
                from vecferry.positions.redis import RedisPlace

                place = RedisPlace(told["uri"], told["name"])
            case _:
                from vecferry.io.files import connections
                from vecferry.positions.files import FilesPlace

                if kind == "oss":
                    from tests.io.files.stores.support import buckets_have_names

                    stack.enter_context(buckets_have_names())
                of_kind = getattr(connections, f"{kind.capitalize()}Connection")
                place = FilesPlace(of_kind.model_validate(told).open_files(20.0))
        place.pace = replace(place.pace, **pace)
        stack.callback(place.close)
        yield place


@contextmanager
def positions(name: str, **pace: float) -> Iterator[Positions]:
    """The positions in the place of that name."""
    with opened(name, **pace) as place:
        yield Positions(place, JOB)
