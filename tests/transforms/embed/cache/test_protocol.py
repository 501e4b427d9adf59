"""A server that sends what is not Redis's protocol is told, in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.run.echoes import RedisEcho
from vecferry.errors import FatalError, JobError
from vecferry.positions.redis import RedisPlace
from vecferry.transforms.embed.cache.settings import cache_settings
from vecferry.transforms.embed.cache.store import VectorStore


class Strange(RedisEcho):
    """Answers every command with the same bytes."""

    data = b""

    def talk(self, rfile: Any, wfile: Any) -> None:
        """As elsewhere."""
        while line := rfile.readline():
            for _ in range(int(line[1:])):
                rfile.read(int(rfile.readline()[1:]) + 2)
            wfile.write(self.data)


@pytest.mark.parametrize("data", [b":x\r\n", b"*x\r\n", b"$x\r\n"], ids=repr)
def test_what_is_not_the_protocol_is_told_as_a_fault_of_the_server(data: bytes) -> None:
    """By the vector cache and by the positions of a sync."""
    server = Strange()
    server.data = data
    with server.running():
        uri = f"redis://127.0.0.1:{server.port}/0"
        with pytest.raises(JobError, match="not Redis's protocol"):
            VectorStore(cache_settings(uri)).check()
        with pytest.raises(FatalError, match="what answers there is not a Redis"):
            RedisPlace(uri, "name").names()
