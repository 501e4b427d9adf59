"""Which endpoint a step's settings mean."""

from __future__ import annotations

from vecferry.transforms.embed.endpoints.base import Endpoint
from vecferry.transforms.embed.settings import EmbedSettings


def open_endpoint(settings: EmbedSettings, connections: int) -> Endpoint:
    """The endpoint of a step, with room for `connections` requests at once; nothing is sent yet.

    Raises ModuleNotFoundError, with what to install, where a provider's library is absent.
    """
    if settings.model_provider == "local":
        from vecferry.transforms.embed.endpoints.local import LocalEndpoint

        return LocalEndpoint(settings, connections)
    if settings.protocol != "openai":
        from vecferry.transforms.embed.endpoints.native import NativeEndpoint

        return NativeEndpoint(settings, connections)
    from vecferry.transforms.embed.endpoints.openai import OpenAiEndpoint

    return OpenAiEndpoint(settings, connections)
