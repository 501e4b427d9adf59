"""What a job says of money: prices of models, and what a run may spend.

Apart from `vecferry.pipelines.job.resolve` because only embedding steps have prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vecferry.errors import near
from vecferry.kinds import Kind
from vecferry.money import CURRENCY, NANO
from vecferry.pipelines.job.model import Job, Setting
from vecferry.settings import StepSettings
from vecferry.steps import Budget

Named = tuple[str, StepSettings]
"""A step's name and its settings."""


def priced(job: Job, kind: Kind, parameter: Mapping[str, Any]) -> dict[str, Any]:
    """The price of the step's model in `setting.prices`, where the step itself says none."""
    price = job.setting.prices.get(str(parameter.get("modelName")))
    if price is None or "price" not in kind.takes or parameter.get("price") is not None:
        return {}
    return {"price": price}


def currency_of(steps: Iterable[StepSettings]) -> str | None:
    """The currency of the prices; None if no step has one."""
    prices = (settings.billed() for settings in steps)
    return next((price.currency for price in prices if price is not None), None)


def problems_of_money(job: Job, steps: Iterable[Named]) -> list[str]:
    """Problems of prices, and of a budget of money."""
    prices = {name: price for name, settings in steps if (price := settings.billed()) is not None}
    currencies = {price.currency: name for name, price in prices.items()}
    problems = []
    if len(currencies) > 1:
        named = " and ".join(f"{name!r} in {code}" for code, name in sorted(currencies.items()))
        problems.append(
            f"job: the prices of the steps are {named}, which do not add up; give all of them in "
            "one currency"
        )
    budget = job.setting.budget
    if budget is not None and budget.money is not None and not prices:
        problems.append(
            "job.setting.budget.money: bounds nothing, as no embedding step has a price; add "
            "price to the step, or its model to setting.prices"
        )
    return problems


def unused_prices(job: Job) -> list[str]:
    """A warning for each model that has a price, and that no step uses."""
    used = [str(step.parameter.get("modelName")) for step in job.steps]
    return [
        f"job.setting.prices: no step uses the model {name!r}{near(name, used)}"
        for name in job.setting.prices
        if name not in used
    ]


def budget_of(setting: Setting, currency: str | None) -> Budget:
    """What a run may spend."""
    budget = setting.budget
    if budget is None:
        return Budget()
    return Budget(
        requests=budget.requests,
        tokens=budget.tokens,
        nano=None if budget.money is None else round(budget.money * NANO),
        currency=currency or CURRENCY,
    )
