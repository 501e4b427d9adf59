"""Contracts of connectors as tests with pytest: what holds for ours, and must hold for yours.

A module of tests makes a subclass of a contract and gives the fixture that the contract asks for.
See docs/writing-a-connector.md. The markers `slow` and `service` are for your own configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

try:
    import pytest
except ModuleNotFoundError as e:
    raise ModuleNotFoundError("vecferry.testing needs pytest: pip install pytest") from e

if TYPE_CHECKING:
    from vecferry.testing.kinds import KindContract as KindContract
    from vecferry.testing.marks import MarkContract as MarkContract
    from vecferry.testing.marks import MarkPlace as MarkPlace
    from vecferry.testing.reconciling import ReconcileContract as ReconcileContract
    from vecferry.testing.reconciling import ReconcilePlace as ReconcilePlace
    from vecferry.testing.sinks import SinkContract as SinkContract
    from vecferry.testing.sinks import SinkPlace as SinkPlace
    from vecferry.testing.sources import SourceContract as SourceContract
    from vecferry.testing.sources import SourcePlace as SourcePlace
    from vecferry.testing.transformers import TransformerContract as TransformerContract
    from vecferry.testing.transformers import TransformerPlace as TransformerPlace

_HOME = {
    "KindContract": "kinds",
    "MarkContract": "marks",
    "MarkPlace": "marks",
    "ReconcileContract": "reconciling",
    "ReconcilePlace": "reconciling",
    "SinkContract": "sinks",
    "SinkPlace": "sinks",
    "SourceContract": "sources",
    "SourcePlace": "sources",
    "TransformerContract": "transformers",
    "TransformerPlace": "transformers",
}

pytest.register_assert_rewrite(*sorted({f"{__name__}.{module}" for module in _HOME.values()}))

__getattr__ = hands_on(__name__, _HOME)
