"""Named connections, kept apart from jobs so that a job holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vecferry.errors import JobError, near
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.placeholders import fill, names_in
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import connection_of, default
from vecferry.settings import Connection


class DataSources:
    """The data sources of one file; each is filled and checked when a job asks for it.

    `own` are the data sources that a template brings. They are filled already, and searched before
    the file's.
    `written` says what each text that was filled was written as.
    """

    def __init__(
        self,
        entries: dict[str, Any],
        values: Mapping[str, str],
        where: str,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        self._entries, self._values, self._where = entries, values, where
        self._own = dict(own or {})
        self.written: dict[str, str] = {}

    def with_own(self, own: Mapping[str, Any]) -> DataSources:
        """These data sources behind those of a template."""
        return DataSources(self._entries, self._values, self._where, own)

    def names(self) -> set[str]:
        """The placeholders in all of them."""
        return names_in(self._entries)

    def get(
        self, name: str, allowed: tuple[str, ...], used_by: str
    ) -> tuple[Connection, list[str]]:
        """The connection called `name`, and warnings; raises JobError if a step cannot use it."""
        entry = self._own[name] if name in self._own else self._filled(name, used_by)
        if not isinstance(entry, dict) or "type" not in entry:
            raise JobError(f"data source {name!r} in {self._where}: must have a type")
        kind = str(entry["type"])
        registry = default()
        known = registry.connection(kind)
        if known is None:
            types = registry.connections()
            raise JobError(
                f"data source {name!r}: type {kind!r} is unknown here{near(kind, types)}; "
                f"known are {', '.join(sorted(types))}{registry.told()}"
            )
        if kind not in allowed:
            raise JobError(
                f"{used_by}: data source {name!r} is of type {kind!r}; this step takes "
                + " or ".join(allowed)
            )
        settings, problems = validate(connection_of(known), entry, f"data source {name!r}")
        if settings is None:
            raise JobError(problems)
        return settings, unknown_keys(settings, f"data source {name!r}")

    @property
    def where(self) -> str:
        """What messages call them: the file, or that there is none."""
        return self._where

    def reaching(self, url: str, kind: str, used_by: str) -> Connection | None:
        """The first data source of type `kind` that reaches `url`, at the folder named there.

        One that can't be filled is passed over. Raises JobError if none is left but those.
        """
        problems: list[str] = []
        for name, entry in {**self._entries, **self._own}.items():
            if not isinstance(entry, dict) or entry.get("type") != kind:
                continue
            try:
                found = self.get(name, (kind,), used_by)[0].at(url)
            except JobError as e:
                problems += [f"{used_by}: {problem}" for problem in e.problems]
            else:
                if found is not None:
                    return found
        if problems:
            raise JobError(problems)
        return None

    def _filled(self, name: str, used_by: str) -> Any:
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise JobError(
                f"{used_by}: data source {name!r} is not in {self._where}"
                f"{near(name, self._entries)}; it has {known}"
            )
        entry, problems = fill(
            self._entries[name], self._values, f"data source {name!r}", self.written
        )
        if problems:
            raise JobError(problems)
        return entry


def read_data_sources(path: str | None, values: Mapping[str, str]) -> DataSources:
    """The data sources of a file; default: ``./datasources.yaml`` or the user's config.

    A path inside a data source is relative to the folder that vecferry runs in.
    """
    if path is not None:
        entries = parse_document(Path(path), "data sources")
        return DataSources(_mapping(entries, path), values, path)
    user = Path(click.get_app_dir("vecferry", force_posix=False)) / "datasources.yaml"
    for candidate in (Path("datasources.yaml"), user):
        if candidate.is_file():
            entries = parse_document(candidate, "data sources")
            return DataSources(_mapping(entries, str(candidate)), values, str(candidate))
    where = f"any file (no --data-sources, no ./datasources.yaml, no {user})"
    return DataSources({}, values, where)


def _mapping(entries: Any, path: str) -> dict[str, Any]:
    if not isinstance(entries, dict):
        raise JobError(f"{path}: must be a mapping of name to data source")
    return entries
