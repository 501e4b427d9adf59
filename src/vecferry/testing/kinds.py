"""What every `kind.py` must show: `KindContract`, a class of tests.

A module of tests makes a subclass of `KindContract` with the `KINDS` and `CONNECTIONS` to test.
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys

import apache_beam as beam

from vecferry.kinds import ConnectionType, Kind, Role
from vecferry.settings import Connection, StepSettings
from vecferry.steps import Source, Target, Transformer

_LOGIC: dict[Role, type] = {"reader": Source, "transformer": Transformer, "writer": Target}


def named(name: str) -> object:
    """What ``module:Class`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def methods(protocol: type) -> set[str]:
    """The public methods and properties of a protocol."""
    return {name for name in dir(protocol) if not name.startswith("_")} - {"counts"}


class KindContract:
    """The tests. A subclass sets `kinds` and `connections`."""

    kinds: tuple[Kind, ...] = ()
    connections: tuple[ConnectionType, ...] = ()

    def test_settings_are_those_of_a_step(self) -> None:
        """They have a JSON Schema for editors, with the key that names a data source."""
        for kind in self.kinds:
            settings = named(kind.settings)
            assert isinstance(settings, type), kind
            assert issubclass(settings, StepSettings), kind
            keys = settings.model_json_schema()["properties"].keys()
            assert not kind.sources or kind.source_key in keys, kind

    def test_logic_has_what_its_role_needs(self) -> None:
        """A `Source`, a `Transformer` or a `Target`, made of settings, connection and context."""
        for kind in self.kinds:
            assert kind.logic is not None, f"{kind.step_type} can't run"
            logic = named(kind.logic)
            assert isinstance(logic, type), kind
            assert methods(_LOGIC[kind.role]) - set(dir(logic)) == set(), kind
            inspect.signature(logic).bind("settings", "connection", "context")

    def test_the_transform_is_one_of_beam(self) -> None:
        """A PTransform whose fields are known to be `settings`, and `connection` if it has one."""
        for kind in self.kinds:
            assert kind.transform is not None, f"{kind.step_type} can't run"
            transform = named(kind.transform)
            assert isinstance(transform, type), kind
            assert issubclass(transform, beam.PTransform), kind
            assert "settings" in inspect.signature(transform).parameters, kind

    def test_a_data_source_has_its_type(self) -> None:
        """Its settings are a `Connection`, and `type` is the name that the kind gives."""
        for connection in self.connections:
            settings = named(connection.settings)
            assert isinstance(settings, type), connection
            assert issubclass(settings, Connection), connection
            assert settings.model_fields["type"].default == connection.type_name, connection

    def test_checking_a_job_imports_no_beam_and_no_client(self) -> None:
        """All settings are imported in a new process; nothing heavy comes with them."""
        told: list[Kind | ConnectionType] = [*self.kinds, *self.connections]
        modules = sorted({one.settings.partition(":")[0] for one in told})
        clients = {one.client.module for one in told if one.client is not None}
        code = (
            "import importlib, sys\n"
            f"for name in {modules!r}: importlib.import_module(name)\n"
            f"print(*[m for m in {sorted(clients | {'apache_beam'})!r} if m in sys.modules])"
        )
        path = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")
