"""The bound of a round: where `LogServer.cut` ends it, over a log that a test makes up."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.server import LogServer

SIZE = 10_000
"""Of each file; a transaction is 100 bytes of four events, from 100 on."""
FILES = [f"log.{n:06}" for n in range(1, 5)]


class Log:
    """Answers as a server with a log of `FILES`."""

    maria = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """The rows of a question."""
        self.asked.append(sql)
        if sql == "SHOW BINARY LOGS":
            return [{"Log_name": name, "File_size": str(SIZE)} for name in FILES]
        found = re.fullmatch(r"SHOW BINLOG EVENTS IN '(.*)' FROM (\d+) LIMIT (\d+), (\d+)", sql)
        if found is None:
            return []
        first, skipped, most = map(int, found.groups()[1:])
        events = [
            {"Pos": str(at), "Event_type": "Gtid" if at % 100 == 0 else "Write_rows"}
            for at in range(100, SIZE, 25)
            if at >= first
        ]
        return list(events[skipped : skipped + most])


@pytest.fixture
def server() -> LogServer:
    """A server whose transactions are even."""
    log: Any = Log()
    return LogServer(log)


@pytest.mark.parametrize(
    ("since", "until", "most", "cut"),
    [
        ((0, 100), (0, 600), 500, (0, 600)),
        ((0, 100), (0, 900), 500, (0, 600)),
        ((0, 100), (0, 900), 430, (0, 600)),
        ((0, 100), (0, 900), 1, (0, 200)),
        ((0, 100), (0, 9000), 7950, (0, 8100)),
        ((0, 9000), (1, 300), 1300, (1, 300)),
        ((0, 9000), (1, 500), 1300, (1, 4)),
        ((0, 9000), (3, 300), 11_100, (2, 4)),
        ((0, 9000), (3, 300), 21_300, (3, 300)),
        ((0, 9000), (1, 300), 450, (0, 9500)),
        ((0, 9800), (1, 300), 150, (1, 4)),
        ((0, SIZE), (1, 900), 500, (1, 4)),
    ],
)
def test_a_round_ends_with_a_transaction_about_so_many_bytes_on(
    server: LogServer,
    since: tuple[int, int],
    until: tuple[int, int],
    most: int,
    cut: tuple[int, int],
) -> None:
    """In the same file or a later one, behind `since` and never behind `until`."""
    begin, end, wanted = (Place(FILES[n], at) for n, at in (since, until, cut))
    assert server.cut(begin, end, most) == wanted
    assert begin < wanted <= end


@pytest.mark.parametrize("most", [1, 170, 2_500, 12_000])
def test_rounds_that_are_cut_come_to_the_end(server: LogServer, most: int) -> None:
    """Each begins where the one before ended."""
    place, end = Place(FILES[0], 9_000), Place(FILES[3], 400)
    seen = [place]
    while place != end:
        place = server.cut(place, end, most)
        assert seen[-1] < place <= end
        seen.append(place)
    assert len(seen) <= 3 + 4 * SIZE // max(100, most) + len(FILES)


def test_a_log_that_has_lost_the_beginning_is_not_cut(server: LogServer) -> None:
    """The reader then tells what is gone."""
    end = Place(FILES[1], 600)
    assert server.cut(Place("log.000000", 4), end, 10) == end
