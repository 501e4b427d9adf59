"""All kinds of steps and types of data sources: vecferry's own, installed ones, registered ones.

Vecferry's own stand in the modules that `BUILT_IN` names. An installed package adds its own by an
entry point in the group ``vecferry.connectors``. A program adds its own by `register` and
`register_connection`. Classes are named, not imported: checking a job imports no Beam, no client.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vecferry.errors import JobError, near, redact
from vecferry.kinds import Client, ConnectionType
from vecferry.kinds import Kind as Kind

if TYPE_CHECKING:
    from vecferry.settings import Connection, StepSettings

T = TypeVar("T")

GROUP = "vecferry.connectors"
"""The group of entry points by which an installed package adds kinds."""

BUILT_IN = (
    "vecferry.io.files.kind",
    "vecferry.io.odps.kind",
    "vecferry.io.paimon.kind",
    "vecferry.io.mysql.kind",
    "vecferry.io.mysql_cdc.kind",
    "vecferry.io.postgresql.kind",
    "vecferry.io.hologres.kind",
    "vecferry.io.milvus.kind",
    "vecferry.io.elasticsearch.kind",
    "vecferry.io.opensearch.kind",
    "vecferry.transforms.embed.kind",
    "vecferry.transforms.json_extract.kind",
    "vecferry.transforms.text_split.kind",
    "vecferry.transforms.shape.kind",
)


@dataclass(frozen=True)
class Package:
    """An installed package that brings kinds."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class _Layer:
    """Kinds and types of data sources from one origin."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Kind] = {}
        self.connections: dict[str, ConnectionType] = {}

    def add(self, kinds: Iterable[Kind], connections: Iterable[ConnectionType]) -> None:
        self.kinds |= {(kind.step_type, kind.role): kind for kind in kinds}
        self.connections |= {connection.type_name: connection for connection in connections}


class Registry:
    """Finds kinds and types of data sources by name.

    The modules of `built_in` are imported at the first question. Entry points are loaded at the
    first question for all names, or for a name that nothing else has.

    Args:
      built_in: the modules with vecferry's own `KINDS` and `CONNECTIONS`.
      entry_points: gives the entry points of `GROUP` when they are needed.
    """

    def __init__(
        self,
        built_in: Iterable[str] = BUILT_IN,
        entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]] | None = None,
    ) -> None:
        self._modules = tuple(built_in)
        self._entry_points = entry_points or _entry_points
        self._own = _Layer()
        self._built_in: _Layer | None = None
        self._others: _Layer | None = None
        self._packages: dict[str, Package] = {}
        self._problems: list[str] = []

    def register(self, kind: Kind) -> None:
        """Adds a kind, or replaces the one of that name and role."""
        self._own.add((kind,), ())

    def register_connection(self, connection: ConnectionType) -> None:
        """Adds a type of data source, or replaces the one of that name."""
        self._own.add((), (connection,))

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """All kinds by stepType; a stepType that reads and writes has two."""
        known = {**self._ours().kinds, **self._installed().kinds, **self._own.kinds}
        names = sorted({name for name, _ in known})
        return {n: tuple(k for (name, _), k in known.items() if name == n) for n in names}

    def kind_of(self, step_type: str, role: str = "") -> Kind:
        """The kind of a stepType, in `role` if the stepType has that role.

        Raises JobError for an unknown stepType: it names the nearest one, or all of them.
        """
        key = (step_type, role)
        for layer in (self._own, self._ours()):
            if key in layer.kinds:
                return layer.kinds[key]
        known = self.kinds()
        if step_type in known:
            found = known[step_type]
            return next((k for k in found if k.role == role), found[0])
        raise JobError(
            f"stepType {step_type!r} is unknown{near(step_type, known)}; "
            f"known are {', '.join(known)}{self.told()}"
        )

    def connections(self) -> dict[str, ConnectionType]:
        """All types of data sources by name."""
        own, others = self._own.connections, self._installed().connections
        return {**self._ours().connections, **others, **own}

    def connection(self, type_name: str) -> ConnectionType | None:
        """The type of data source of that name; None for an unknown one."""
        for layer in (self._own, self._ours()):
            if type_name in layer.connections:
                return layer.connections[type_name]
        return self._installed().connections.get(type_name)

    def package_of(self, named: Kind | ConnectionType) -> Package | None:
        """The installed package that brings a kind; None for vecferry's own and registered ones."""
        return self._packages.get(named.settings)

    def problems(self) -> list[str]:
        """What is wrong with each entry point that was refused."""
        self._installed()
        return list(self._problems)

    def told(self) -> str:
        """The problems as the end of an error's text; empty if there are none."""
        return "".join(f"; {problem}" for problem in self.problems())

    def _ours(self) -> _Layer:
        if self._built_in is None:
            layer = _Layer()
            for name in self._modules:
                module = importlib.import_module(name)
                layer.add(module.KINDS, module.CONNECTIONS)
            self._built_in = layer
        return self._built_in

    def _installed(self) -> _Layer:
        if self._others is None:
            self._others = _Layer()
            for point in sorted(self._entry_points(), key=lambda point: (point.name, point.value)):
                self._take(point)
        return self._others

    def _take(self, point: importlib.metadata.EntryPoint) -> None:
        """Adds what an entry point brings, or says why it is refused."""
        package = _package(point)
        where = f"entry point {point.name!r} of {package}"
        try:
            found = point.load()
            kinds = _listed(found, "KINDS", Kind)
            connections = _listed(found, "CONNECTIONS", ConnectionType)
            if not kinds and not connections:
                raise ValueError(f"{point.value} has neither KINDS nor CONNECTIONS")
        except Exception as e:  # whatever a stranger's module raises must not end other jobs
            what = redact(f"{type(e).__name__}: {e}")
            self._problems.append(
                f"{where} can't be loaded ({what}): update or uninstall {package.name}"
            )
            return
        clashes = self._clashes(kinds, connections)
        if clashes:
            self._problems.append(
                f"{where} is left out, because {' and '.join(clashes)}: rename what it brings, or "
                f"uninstall {package.name}"
            )
            return
        assert self._others is not None
        self._others.add(kinds, connections)
        self._packages |= {named.settings: package for named in (*kinds, *connections)}

    def _clashes(
        self, kinds: tuple[Kind, ...], connections: tuple[ConnectionType, ...]
    ) -> list[str]:
        assert self._others is not None
        clashes = []
        for layer, whose in (
            (self._ours(), "vecferry itself has"),
            (self._others, "another package has"),
        ):
            clashes += [
                f"{whose} a {k.role} {k.step_type!r}"
                for k in kinds
                if (k.step_type, k.role) in layer.kinds
            ]
            clashes += [
                f"{whose} a type of data source {c.type_name!r}"
                for c in connections
                if c.type_name in layer.connections
            ]
        return clashes


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=GROUP)


def _package(point: importlib.metadata.EntryPoint) -> Package:
    if point.dist is None:
        return Package(point.module, "")
    return Package(point.dist.name, point.dist.version)


def _listed(found: Any, name: str, wanted: type[Any]) -> tuple[Any, ...]:
    """The tuple called `name` of a module or an object; TypeError if it holds anything else."""
    listed = tuple(getattr(found, name)) if hasattr(found, name) else ()
    for item in listed:
        if not isinstance(item, wanted):
            raise TypeError(f"{name} holds {item!r}, which is not a {wanted.__name__}")
    return listed


def load(name: str) -> Any:
    """What ``module:Name`` names. Raises JobError if a stranger's class can't be imported."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        if module.startswith("vecferry."):
            raise
        raise JobError(
            f"{name} can't be imported: {e}; correct the kind that names it, or install what "
            "the module needs"
        ) from e


def settings_of(kind: Kind) -> type[StepSettings]:
    """The class of what a job may say of a step. Raises JobError if it is not a `StepSettings`."""
    from vecferry.settings import StepSettings

    return _class_of(kind.settings, StepSettings)


def connection_of(connection: ConnectionType) -> type[Connection]:
    """The class of a type of data source. Raises JobError if it is not a `Connection`."""
    from vecferry.settings import Connection

    return _class_of(connection.settings, Connection)


def _class_of(name: str, base: type[T]) -> type[T]:
    found = load(name)
    if isinstance(found, type) and issubclass(found, base):
        return found
    raise JobError(
        f"{name} is not a {base.__name__}: let it inherit {base.__module__}.{base.__name__}"
    )


_default = Registry()


def default() -> Registry:
    """The registry that jobs use."""
    return _default


@contextmanager
def using(registry: Registry) -> Iterator[Registry]:
    """Puts a registry in the place of the default one, so that a test leaves no trace there."""
    global _default
    before, _default = _default, registry
    try:
        yield registry
    finally:
        _default = before


def register(kind: Kind) -> None:
    """Adds a stepType of your own, or replaces one; workers need nothing of it."""
    _default.register(kind)


def register_connection(type_name: str, settings: str, client: Client | None = None) -> None:
    """Adds a type of data source; `settings` is written ``module:Class``."""
    _default.register_connection(ConnectionType(type_name, settings, client))


def kinds() -> dict[str, tuple[Kind, ...]]:
    """All kinds by stepType; a stepType that reads and writes has two."""
    return _default.kinds()


def kind_of(step_type: str, role: str = "") -> Kind:
    """The kind of a stepType, in `role` if the stepType has that role.

    Raises JobError for an unknown stepType: it names the nearest one, or all of them.
    """
    return _default.kind_of(step_type, role)


def connections() -> dict[str, ConnectionType]:
    """All types of data sources by name."""
    return _default.connections()
