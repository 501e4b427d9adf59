"""Packages that hand on names without importing the modules which define these names (PEP 562).

`from vecferry.io.milvus import WriteToMilvus` must work, and `vecferry.io.milvus.settings` must not
import Beam: Python imports a package before any of its modules.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def hands_on(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """The `__getattr__` of a package: imports a module when one of its names is asked for.

    Args:
      package: the package's `__name__`.
      names: each public name, and the module in the package that defines it.
    """

    def attribute(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return attribute
