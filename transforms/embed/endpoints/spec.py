"""What a job says of the endpoint of a step, and what an endpoint is opened with.

Imports neither numpy nor a client, since settings are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vecferry.transforms.embed.endpoints.models import Model

Auth = Literal["bearer", "raw"]
"""How a key stands in the header ``Authorization``: behind the word Bearer, or alone."""


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """What a job says of a step's endpoint.

    Attributes:
      provider: the name of the provider, as the job writes it.
      model_name: the name of the model, None if the job names none.
      model: what is known of the model; None if nothing is.
      endpoint: the base URL; None if the job leaves it to the provider.
      workspace: the part of an account in which the service runs, for providers that have parts.
      api_key: the key.
      dimension: the size of the vectors that the job wants.
      send_dimension: whether requests name the dimension; None if the job leaves it to the model.
      takes_images: whether the step also embeds images.
      timeout: seconds for a request.
      request_body: the body of requests, if the job has one of a connector.
    """

    provider: str
    model_name: str | None
    model: Model | None
    endpoint: str | None
    workspace: str
    api_key: str | None = field(repr=False)
    dimension: int
    send_dimension: bool | None
    takes_images: bool
    timeout: float
    request_body: str | None = None

    @property
    def multimodal(self) -> bool:
        """Whether the model has a multimodal API; of an unknown one, whether it gets images."""
        return self.model.multimodal if self.model is not None else self.takes_images


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """All that an endpoint needs to know; a provider makes it of `EndpointOptions`.

    Attributes:
      opens: the class of the endpoint, as ``module:Class``.
      url: where requests go; None for what runs in this process.
      other_url: where requests go if nothing is served at `url`.
      model: the name of the model, in requests and messages.
      dimension: the size of every vector.
      asks_dimension: whether requests name the dimension.
      base64: whether vectors may be asked for as base64.
      multimodal: whether requests have the shape of a multimodal API.
      auth: how the key is sent.
      api_key: the key; None if none is sent.
      timeout: seconds for a request.
      in_flight: how many requests a bundle may have under way; None if the job decides.
      request_bytes: how large a request is made at most, unless one input alone is larger.
      body: further fields of a request, as JSON, which may hold secrets.
      query_body: the same for texts to search by.
      headers: further headers of a request, which may be secrets.
      request_body: the whole body of a request, with places for the texts and the model.
    """

    opens: str
    url: str | None
    other_url: str | None = None
    model: str
    dimension: int
    asks_dimension: bool
    base64: bool = False
    multimodal: bool = False
    auth: Auth = "bearer"
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    in_flight: int | None = None
    request_bytes: int = 6 << 20
    body: str = field(default="{}", repr=False)
    query_body: str = field(default="{}", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    request_body: str | None = None
