"""Keeps connections between splits: opening one, with TLS, costs as much as reading many rows."""

from __future__ import annotations

import threading

from vecferry.io.table_database import Database


class Connections:
    """The idle connections of one step in this process, by number of the step's database."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, Database]] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, group: int) -> Database | None:
        """One that nobody uses, to be given back or closed; None where there is none."""
        with self._lock:
            for i, (at, database) in enumerate(self._idle):
                if at == group:
                    del self._idle[i]
                    return database
        return None

    def give(self, group: int, database: Database) -> None:
        """Keeps one whose last result was read to its end."""
        database.rest()
        with self._lock:
            if not self._closed:
                self._idle.append((group, database))
                return
        database.close()

    def drop(self) -> None:
        """Closes the idle ones: when one broke, the others are likely to be dead, too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, database in idle:
            database.close()

    def close(self) -> None:
        """Closes the idle ones, and from now on every one that is given back."""
        self._closed = True
        self.drop()
