"""Which endpoint a step's settings mean."""

from __future__ import annotations

from vecferry.transforms.embed_settings import EmbedSettings
from vecferry.transforms.endpoints.base import Endpoint


def open_endpoint(settings: EmbedSettings, connections: int) -> Endpoint:
    """The endpoint of a step, with room for `connections` requests at once; nothing is sent yet.

    Raises ModuleNotFoundError, with what to install, where a provider's library is absent.
    """
    if settings.model_provider == "local":
        from vecferry.transforms.endpoints.local import LocalEndpoint

        return LocalEndpoint(settings, connections)
    if settings.protocol != "openai":
        from vecferry.transforms.endpoints.native import NativeEndpoint

        return NativeEndpoint(settings, connections)
    from vecferry.transforms.endpoints.openai import OpenAiEndpoint

    return OpenAiEndpoint(settings, connections)
