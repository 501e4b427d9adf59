"""Opens the endpoint that a spec names."""

from __future__ import annotations

import pkgutil

from vecferry.transforms.embed.endpoints.base import Endpoint
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


def open_endpoint(spec: EndpointSpec, connections: int) -> Endpoint:
    """The endpoint of a step, with room for `connections` requests at once; nothing is sent yet.

    Raises ModuleNotFoundError, with what to install, if the library of a provider is absent.
    """
    opened: Endpoint = pkgutil.resolve_name(spec.opens)(spec, connections)
    return opened
