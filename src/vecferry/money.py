"""What requests cost, by the prices that a job names.

Amounts are whole numbers of billionths (nano), so that the sums of many workers are exact.
"""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from vecferry.errors import near
from vecferry.fields import in_form
from vecferry.settings import Settings

NANO = 10**9
"""How many nano one unit of a currency has."""
CURRENCY = "USD"


class Price(Settings):
    """What a service bills for a model."""

    per_million_tokens: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="what a million tokens cost",
        examples=[0.07],
        json_schema_extra=in_form("limits"),
    )
    per_image: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="what an image costs",
        examples=[0.0001],
        json_schema_extra=in_form("limits"),
    )
    currency: str = Field(
        CURRENCY,
        pattern=r"^[A-Z]{3}$",
        description="three letters; all steps of a job have one currency",
        examples=["EUR"],
        json_schema_extra=in_form("limits"),
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.per_million_tokens is None and self.per_image is None:
            known = ("perMillionTokens", "perImage")
            hints = "".join(near(key, known) for key in self.model_extra or {})
            raise ValueError(f"price names no price: add perMillionTokens or perImage{hints}")
        return self

    def nano(self, tokens: int, images: int) -> int:
        """What so many tokens and images cost, in nano."""
        cost = tokens * (self.per_million_tokens or 0) / 1e6 + images * (self.per_image or 0)
        return round(cost * NANO)


def shown(nano: float, currency: str) -> str:
    """An amount for a person, such as ``1,204.50 USD``; less than 1 with three digits."""
    amount = nano / NANO
    places = 2 if amount >= 1 or amount <= 0 else 2 - math.floor(math.log10(amount))
    text = f"{amount:,.{places}f}"
    return f"{text if amount >= 1 else text.rstrip('0').rstrip('.')} {currency}"
