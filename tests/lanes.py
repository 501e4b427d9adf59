"""The tests that share a process, and their order: `pytest -n 4` runs the suite in four of them.

`--order random` shuffles the modules of a group, and the tests of a module, so that no test leans
on what another test left behind. The session prints the seed; `--order SEED` repeats its order.

Most tests wait for a server rather than compute. What uses one server is one group, so that a
single process starts it. Heavy servers are one group together, so that never two of them run.
Whatever has no group goes to the process that is free. The long groups come first, and last of all
the tests that are marked `alone`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.server import Server, stop

GROUPS = {
    "io/milvus/test_contract": "milvus",
    "io/milvus/test_parents": "milvus",
    "io/milvus/test_server": "milvus",
    "io/sink/test_mark_contract": "milvus",
    "pipelines/test_vendor_jobs_servers": "milvus",
    "pipelines/test_beam_yaml": "tables",
    "contracts/test_sources": "tables",
    "io/tables/test_contract": "tables",
    "io/tables/test_faults": "tables",
    "io/mysql/test_source": "tables",
    "pipelines/autoetl/test_keys": "tables",
    "io/mysql_cdc/test_log": "cdc",
    "io/mysql_cdc/test_faults": "cdc",
    "io/mysql_cdc/test_snapshot": "cdc",
    "io/mysql_cdc/test_rows": "cdc",
    "io/mysql_cdc/test_stream": "cdc",
    "io/paimon/test_reference": "paimon",
    "io/paimon/test_reference_changes": "paimon",
    "io/paimon/test_rest": "paimon",
    "io/paimon/test_secrets": "paimon",
    "io/postgresql/test_parents": "tables",
    "io/postgresql/test_source": "tables",
    "io/postgresql/test_building": "tables",
    "io/postgresql/test_target": "tables",
    "io/postgresql/test_client": "tables",
    "io/postgresql/test_encode": "tables",
    "io/hologres/test_target": "tables",
    "io/sink/test_contract": "tables",
    "io/files/test_followed_verify": "tables",
    "io/files/stores/test_contract": "files",
    "io/files/stores/test_faults": "files",
    "io/files/stores/test_followed": "files",
    "io/files/stores/test_jobs": "files",
    "io/files/stores/test_remote": "files",
    "transforms/embed/cache/test_contract": "redis",
    "transforms/embed/cache/test_redis": "redis",
    "pipelines/cli/test_cache": "redis",
    "positions/test_places": "files",
    "positions/test_lease": "files",
}
"""Modules whose tests of servers use the same ones; any other module is a group of its own."""

READERS = ("test_arrows", "test_repository", "test_words")
"""Modules that parse all code: one process does so once."""

LAST = ("", "alone")
SHARED = "VECFERRY_TEST_LANES"
"""Names, for the processes of a session, the folder that they share."""
SEED = "VECFERRY_TEST_ORDER"
"""Tells the processes of a session the seed of a random order."""


def add_options(parser: pytest.Parser) -> None:
    """The option that says in which order tests run."""
    parser.addoption(
        "--order",
        metavar="SEED",
        help="shuffle the tests: `random`, or the number that an earlier session printed",
    )


def begin(config: pytest.Config) -> None:
    """Makes the folder that the processes of a session share, and chooses the order for all."""
    if config.getoption("order", None) == "random":
        if not is_one_of_several(config):
            os.environ[SEED] = str(random.SystemRandom().randrange(10**6))
        config.option.order = os.environ[SEED]
    if config.getoption("numprocesses", None):
        os.environ[SHARED] = folder = tempfile.mkdtemp(prefix="vecferry-lanes-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def is_one_of_several(config: pytest.Config) -> bool:
    """Whether this process was given its tests by another one."""
    return hasattr(config, "workerinput")


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out whole groups, in their order.

    xdist's own `loadgroup` would, but writes the group into a node's id, which pytest 9.2 passes
    over.
    """
    from xdist.scheduler import LoadScopeScheduling

    groups: dict[str, str] = {}

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if not groups:
                told = (Path(os.environ[SHARED]) / "groups.json").read_text(encoding="utf-8")
                groups.update(json.loads(told))
            return groups[nodeid] or nodeid

    config.option.loadscopereorder = False
    return InGroups(config, log)


def heavy_server(item: pytest.Item | None) -> type[Server] | None:
    """The server of a gigabyte or more that a test is marked with."""
    mark = item.get_closest_marker("heavy") if item else None
    return mark.kwargs["server"] if mark else None


def module_of(path: Path) -> str:
    """A test module as `GROUPS` names it, from the folder of the tests on."""
    here = Path(__file__).parent
    return str(path.relative_to(here).with_suffix("")) if here in path.parents else path.stem


def group_of(item: pytest.Item) -> str:
    """The group of a test; empty for one that needs no server."""
    if item.get_closest_marker("alone"):
        return "alone"
    if heavy_server(item):
        return "heavy"
    if item.get_closest_marker("service"):
        module = module_of(item.path)
        return GROUPS.get(module, module)
    return "code" if module_of(item.path) in READERS else ""


def shuffle(items: list[pytest.Item], seed: str) -> None:
    """Puts modules, and the tests of each module, into the order of a seed."""
    chance = random.Random(seed)
    modules = sorted({item.path for item in items})
    chance.shuffle(modules)
    place = {path: at for at, path in enumerate(modules)}
    chance.shuffle(items)
    items.sort(key=lambda item: place[item.path])


def arrange(items: list[pytest.Item]) -> None:
    """Puts the tests of a group, and in it those of a heavy server, beside each other."""
    if items and (seed := items[0].config.getoption("order", None)):
        shuffle(items, seed)
    groups = {item: group_of(item) for item in items}
    first = ["heavy", *dict.fromkeys(GROUPS.values()), *dict.fromkeys(groups.values())]
    order = {name: at for at, name in enumerate(dict.fromkeys(n for n in first if n not in LAST))}
    order |= {name: len(order) + at for at, name in enumerate(LAST)}
    heavy = list(dict.fromkeys(heavy_server(item) for item in items))
    items.sort(
        key=lambda item: (
            order[groups[item]],
            heavy.index(heavy_server(item)),
            not groups[item] and not item.get_closest_marker("slow"),
        )
    )
    if items and is_one_of_several(items[0].config):
        file = Path(os.environ[SHARED]) / "groups.json"
        own = file.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps({i.nodeid: g for i, g in groups.items()}), encoding="utf-8")
        own.replace(file)


def make_room(item: pytest.Item, following: pytest.Item | None) -> None:
    """Stops the heavy server of a test whose successor uses it no more."""
    server = heavy_server(item)
    if server and heavy_server(following) is not server:
        stop(server)


@contextlib.contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """Lets tests run beside each other, and those that are marked `alone` beside none."""
    if not is_one_of_several(item.config):
        yield
        return
    alone = item.get_closest_marker("alone")
    with (Path(os.environ[SHARED]) / "turn.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
