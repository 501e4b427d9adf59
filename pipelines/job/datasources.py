"""Named connections, kept apart from jobs so that a job holds no secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vecferry.errors import JobError, near
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.placeholders import Values, fill, names_in
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import connection_of, default
from vecferry.references import REFERENCE, at_its_place
from vecferry.settings import Connection

FILE_NAME = "datasources.yaml"


class DataSources:
    """The data sources of one file; each is filled and checked when a job asks for it.

    `own` are the data sources that a template brings. They are filled already, and searched before
    the file's.
    `written` says what each text that was filled was written as. Relative paths of the file are
    relative to `folder`; an empty one is the current folder. `passed_over` are other files that
    could have been meant.
    """

    def __init__(
        self,
        entries: dict[str, Any],
        values: Mapping[str, str],
        where: str,
        own: Mapping[str, Any] | None = None,
        folder: str = "",
    ) -> None:
        self._entries, self._values, self._where = entries, values, where
        self._own, self._folder = dict(own or {}), folder
        self.written: dict[str, str] = {}
        self.passed_over: list[str] = []

    def with_own(self, own: Mapping[str, Any]) -> DataSources:
        """These data sources behind those of a template."""
        return DataSources(self._entries, self._values, self._where, own, self._folder)

    def entries(self) -> dict[str, Any]:
        """All of them by name, as they are written."""
        return {**self._entries, **self._own}

    def as_written_here(self, name: str) -> dict[str, Any]:
        """One of them as it is written in a file of the current folder: its paths are whole.

        Placeholders and references stay, so that no secret is written out.
        """
        entry, folder = self.entries()[name], self._folder
        if not isinstance(entry, dict):
            return {}  # whoever opens it tells what it lacks
        if not folder or name in self._own:
            return entry
        known, told = default().connection(str(entry.get("type"))), f"data source {name!r}"
        if known is None:
            return dict(entry)
        settings, _ = validate(connection_of(known), self._filled(name, told), told)
        paths = set() if settings is None else set(settings.paths().values())

        def here(value: Any) -> Any:
            if isinstance(value, dict):
                return {n: here(v) for n, v in value.items()}
            if not isinstance(value, str):
                return value
            if value in paths:
                return os.path.normpath(os.path.join(folder, os.path.expanduser(value)))
            return REFERENCE.sub(lambda match: at_its_place(match, folder), value)

        return {n: here(v) for n, v in entry.items()}

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
        folder = "" if name in self._own else self._folder
        settings, moved = _at_their_place(settings, folder, f"data source {name!r}")
        return settings, [*moved, *unknown_keys(settings, f"data source {name!r}")]

    def doubts(self) -> list[str]:
        """A warning for each other file of data sources that could have been meant."""
        return [
            f"the data sources are those of {self._where}, in the current folder, and not those "
            f"beside the job, {other}; name the file that is meant with --data-sources"
            for other in self.passed_over
        ]

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
            self._entries[name], self._values, f"data source {name!r}", self.written, self._folder
        )
        if problems:
            raise JobError(problems)
        return entry


def read_data_sources(
    path: str | None, values: Mapping[str, str], beside: str | None = None
) -> DataSources:
    """The data sources of a file.

    Without a path it is ``datasources.yaml`` in the current folder, in the folder of the job
    (`beside`), or in the user's configuration. A path inside a data source is relative to the
    folder of the file, or to the current folder if the values say so.
    """
    user = Path(click.get_app_dir("vecferry", force_posix=False)) / FILE_NAME
    if path is not None:
        return _read(Path(path).expanduser(), path, values)
    places = [Path(FILE_NAME), *([Path(beside) / FILE_NAME] if beside else []), user]
    there = [place for place in places if place.is_file()]
    if there:
        found = _read(there[0], str(there[0]), values)
        found.passed_over = [str(p) for p in there[1:] if p != user and not p.samefile(there[0])]
        return found
    beside_it = f", no {places[1]}" if beside else ""
    where = f"any file (no --data-sources, no ./{FILE_NAME}{beside_it}, no {user})"
    return DataSources({}, values, where)


def _read(file: Path, where: str, values: Mapping[str, str]) -> DataSources:
    entries = _mapping(parse_document(file, "data sources"), where)
    here = isinstance(values, Values) and values.paths_from_here
    same = here or os.path.realpath(file.parent) == os.path.realpath(".")
    return DataSources(entries, values, where, folder="" if same else os.path.abspath(file.parent))


def _at_their_place(settings: Connection, folder: str, told: str) -> tuple[Connection, list[str]]:
    """A data source whose paths are whole; a warning for each that once meant another file."""
    moved: dict[str, str] = {}
    warnings: list[str] = []
    for name, written in settings.paths().items():
        path = os.path.expanduser(written)
        if folder and not os.path.isabs(path):
            whole = os.path.normpath(os.path.join(folder, path))
            if os.path.exists(path) and not os.path.exists(whole):
                warnings.append(
                    f"{told}: {written} is {whole}, beside the data sources, and does not exist; "
                    "it exists in the current folder: move it, or give --relative-to cwd"
                )
            elif os.path.exists(path):
                warnings.append(
                    f"{told}: {written} is {whole}, beside the data sources, and not the one in "
                    "the current folder; give --relative-to cwd if that is meant"
                )
            path = whole
        if path != written:
            moved[name] = path
    return (settings.with_paths(moved) if moved else settings), warnings


def _mapping(entries: Any, path: str) -> dict[str, Any]:
    if not isinstance(entries, dict):
        raise JobError(f"{path}: must be a mapping of name to data source")
    return entries
