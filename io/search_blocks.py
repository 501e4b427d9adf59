"""What somebody shut, so that nothing can be written: an index, or the whole cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vecferry.errors import TransientError
from vecferry.io.search_client import SearchClient, StatusError

_OF_AN_INDEX = ("index.blocks.write", "index.blocks.read_only")
_OF_A_CLUSTER = ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete")
_CLOSED = "index.verified_before_close"


def blocks(client: SearchClient, path: str) -> list[str]:
    """A problem for each setting that keeps rows out of the index at `path`, with what undoes it.

    Not the one that a full disk sets: that one is waited for. Who may not read settings is told in
    the run.
    """
    return [*_of_the_cluster(client), *_of_the_index(client, path)]


def _of_the_cluster(client: SearchClient) -> Iterator[str]:
    found = _read(client, "/_cluster/settings")
    for kind in ("persistent", "transient"):
        for block in _OF_A_CLUSTER:
            if _is_true(found.get(kind), block):
                yield (
                    f"the cluster may not be written to, as its setting {block} is true: "
                    f'PUT /_cluster/settings {{"{kind}": {{"{block}": null}}}} opens it'
                )


def _of_the_index(client: SearchClient, path: str) -> Iterator[str]:
    for name, body in _read(client, f"{path}/_settings").items():
        settings = body.get("settings")
        if _is_true(settings, _CLOSED):
            yield f"index {name!r} is closed: POST /{name}/_open opens it"
        for block in _OF_AN_INDEX:
            if _is_true(settings, block):
                yield (
                    f"index {name!r} may not be written to, as its setting {block} is true: "
                    f'PUT /{name}/_settings {{"{block}": null}} opens it'
                )


def _read(client: SearchClient, path: str) -> dict[str, Any]:
    try:
        answer = client.request("GET", f"{path}?flat_settings=true")
    except (StatusError, TransientError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_true(settings: Any, name: str) -> bool:
    return isinstance(settings, dict) and str(settings.get(name)).lower() == "true"
