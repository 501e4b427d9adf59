"""What a connector offers: its kinds of steps and its types of data sources.

Each connector has a module `kind.py` with two tuples, `KINDS` and `CONNECTIONS`. The tuples name
classes and do not import them, so a job is checked without Beam and without client libraries.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["reader", "transformer", "writer"]
"""Where a step stands in a job."""

Taken = Literal["vectorCache", "trustedEndpoints", "price"]
"""A setting of a job that a step can take as a parameter."""

_ROLES = ("reader", "transformer", "writer")
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Client:
    """A client library: the `module` to import, and the argument for `pip install`."""

    module: str
    install: str

    @property
    def is_there(self) -> bool:
        """Whether it can be imported, as far as can be told without importing it."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except (ImportError, ValueError):  # the package around it is missing, or half removed
            return False


@dataclass(frozen=True)
class Kind:
    """A stepType in one role. `settings`, `logic` and `transform` are written ``module:Class``.

    Attributes:
      step_type: the name that a job uses.
      role: ``reader``, ``transformer`` or ``writer``.
      settings: a `StepSettings`.
      logic: a `Source`, a class of operators or a `Target`, callable without Beam. A kind without
        logic can be checked, and not run.
      transform: the public PTransform.
      sources: the types of data sources that the step takes.
      source_key: the parameter that names the data source.
      source_needed: whether a job must name a data source.
      client: the library that the step needs on every worker, whatever its data source.
      beam_yaml: the step's name in Beam YAML; None where it has no name of its own there.
      takes: the settings of the job that become parameters of the step.
    """

    step_type: str
    role: Role
    settings: str
    logic: str | None = None
    transform: str | None = None
    sources: tuple[str, ...] = ()
    source_key: str = "datasource"
    source_needed: bool = True
    client: Client | None = None
    beam_yaml: str | None = None
    takes: tuple[Taken, ...] = ()

    def __post_init__(self) -> None:
        where = f"the kind {self.step_type!r}"
        if self.role not in _ROLES:
            raise ValueError(f"{where}: role is {self.role!r}; use one of {', '.join(_ROLES)}")
        for name, value in (
            ("settings", self.settings), ("logic", self.logic), ("transform", self.transform)
        ):  # fmt: skip
            if value is not None:
                _named(f"{where}: {name}", value)


@dataclass(frozen=True)
class ConnectionType:
    """A type of data source; `settings` and `browser` are written ``module:Class``.

    `client` is the library that a worker needs to open the data source. `browser` is a
    `vecferry.browse.Browser`; nobody can look at a data source without one.
    """

    type_name: str
    settings: str
    client: Client | None = None
    browser: str | None = None

    def __post_init__(self) -> None:
        where = f"the type of data source {self.type_name!r}"
        _named(f"{where}: settings", self.settings)
        if self.browser is not None:
            _named(f"{where}: browser", self.browser)


def _named(where: str, value: str) -> None:
    if not _CLASS.fullmatch(value):
        raise ValueError(f"{where} is {value!r}; write it as 'package.module:Class'")
