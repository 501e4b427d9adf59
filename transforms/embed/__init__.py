"""Texts and images of a row into vectors.

The modules, in the order of a row's way:

- `engine`: rows in, rows with vectors out
- `text`: the text of a row
- `rows`: rows that wait for vectors
- `long`: texts that are too long for a model
- `outbox`: inputs on their way to the endpoint
- `caller`: one batch to one endpoint
- `learned`: what an endpoint refuses and serves
- `messages`: what threads tell the engine
- `pace`: the quotas of a service
- `steady`: servers that refuse a share of all requests
- `shared`: what all bundles of a run share
- `recall`: vectors that are known, without a request
- `estimate`: what stands in for the engine before a run
- `endpoints`: the services and models
- `images`: images, fetched and prepared
- `cache`: vectors that are known already

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.transforms.embed.settings import EmbedSettings as EmbedSettings
    from vecferry.transforms.embed.transform import Embed as Embed

__getattr__ = hands_on(
    __name__,
    {
        "Embed": "transform",
        "EmbedSettings": "settings",
    },
)
