"""The providers: where each is, what it asks of a job, and which endpoint speaks its protocol.

A new provider is an object in `PROVIDERS`, of a class of its own where its addresses or its shapes
differ from OpenAI's. A new shape of requests is a module beside this one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from vecferry.kinds import Client
from vecferry.transforms.embed.endpoints.models import Model, model_named
from vecferry.transforms.embed.endpoints.request_body import around_input
from vecferry.transforms.embed.endpoints.spec import Auth, EndpointOptions, EndpointSpec

_HERE = "vecferry.transforms.embed.endpoints."
OPENAI = _HERE + "openai:OpenAiEndpoint"
STUDIO = _HERE + "studio:StudioEndpoint"
AI_SEARCH = _HERE + "aisearch:AiSearchEndpoint"
LOCAL = _HERE + "local:LocalEndpoint"
CONNECTOR = _HERE + "connector:ConnectorEndpoint"

STUDIO_PATH = "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding"
LOCAL_MODEL = "wordllama-l2-supercat"

_MULTIMODAL = "use a multimodal model of bailian or aiSearch (tongyi-embedding-vision-plus, …)"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider that speaks as OpenAI does.

    Attributes:
      title: its name for people.
      base: its base URL; None if every user has an own one.
      auth: how the key stands in the header ``Authorization``.
      key_needed: whether it can't be used without a key.
      base64: whether vectors may be asked for as base64.
      chooses: whether a request may ask for a dimension at all.
      images: whether it has an API for images.
      request_bytes: how large a request is made at most, unless one input alone is larger.
      in_flight: how many requests a bundle may have under way; None if the job decides.
      client: the library that a worker needs for it.
      defaults: parameters of a step that the provider fills, by their names in Python.
      variables: the environment variables in which people keep its key, the usual one first.
    """

    title: str
    base: str | None = None
    auth: Auth = "bearer"
    key_needed: bool = True
    base64: bool = False
    chooses: bool = True
    images: bool = False
    request_bytes: int = 6 << 20
    in_flight: int | None = None
    client: Client | None = None
    defaults: dict[str, int] = field(default_factory=dict, hash=False)
    variables: tuple[str, ...] = ()

    def model(self, name: str | None) -> Model | None:
        """What is known of a model; None if nothing is."""
        return model_named(name)

    def shown_model(self, name: str | None) -> str:
        """The name of a model in messages."""
        return name or ""

    def faults(self, options: EndpointOptions) -> list[str | None]:
        """What keeps a step from speaking to the provider."""
        name = options.provider
        own_server = options.endpoint is not None or self.base is None
        keyless = not options.api_key and (self.key_needed or not own_server)
        nowhere = self.base is None and options.endpoint is None
        return [
            None if options.model_name else f"modelName is missing: {name} needs one",
            self._keyless(name) if keyless else None,
            key_fault(options.api_key or ""),
            f"endpoint is missing: {name} has no address of its own, "
            "write the base URL of the deployed service"
            if nowhere
            else None,
            self.body_fault(options),
        ]

    def body_fault(self, options: EndpointOptions) -> str | None:
        """Why `requestBody` can't be sent, or is missing; None if all is well."""
        if options.request_body is None:
            return None
        return "requestBody is for modelProvider connector: leave it out, or name that provider"

    def _keyless(self, name: str) -> str:
        """That the key is missing, with the variable to take it from."""
        known = [v for v in self.variables if os.environ.get(v)]
        variable = (known or [*self.variables, "EMBEDDING_API_KEY"])[0]
        state = "is set here" if known else "holds the key"
        return (
            f'apiKey is missing: {name} needs one; write "apiKey": "${{{variable}}}", where the '
            f"environment variable {variable} {state}"
        )

    def image_fault(self, options: EndpointOptions) -> str | None:
        """Why a step can't embed images with this provider; None if it can."""
        if not self.images:
            return (
                f"inputType image: modelProvider {options.provider} embeds texts only: "
                f"{_MULTIMODAL}"
            )
        if options.model is not None and not options.model.multimodal:
            return f"inputType image: {options.model_name} embeds texts only: {_MULTIMODAL}"
        return None

    def opens(self, options: EndpointOptions) -> str:
        """The class of the endpoint, as ``module:Class``."""
        return OPENAI

    def url(self, options: EndpointOptions) -> str | None:
        """Where requests go, in full; None for what runs in this process."""
        base = self._base(options)
        return base if base.endswith("/embeddings") else f"{base}/embeddings"

    def other_url(self, options: EndpointOptions) -> str | None:
        """Where requests go if nothing is served at `url`; None if there is one address only."""
        return None

    def spec(self, options: EndpointOptions) -> EndpointSpec:
        """What the endpoint is opened with."""
        asks = options.send_dimension
        if asks is None:
            asks = self.chooses and (options.model is None or options.model.chooses)
        return EndpointSpec(
            opens=self.opens(options),
            url=self.url(options),
            other_url=self.other_url(options),
            model=self.shown_model(options.model_name),
            dimension=options.dimension,
            asks_dimension=asks,
            base64=self.base64,
            multimodal=options.multimodal,
            auth=self.auth,
            api_key=options.api_key,
            timeout=options.timeout,
            in_flight=self.in_flight,
            request_bytes=self.request_bytes,
        )

    def _base(self, options: EndpointOptions) -> str:
        return options.endpoint or self.base or ""

    def _host(self, options: EndpointOptions) -> str:
        return "{0.scheme}://{0.netloc}".format(urlsplit(self._base(options)))


class Bailian(Provider):
    """Model Studio: its compatible mode for texts, its own API for multimodal models."""

    def opens(self, options: EndpointOptions) -> str:
        return STUDIO if options.multimodal else OPENAI

    def url(self, options: EndpointOptions) -> str | None:
        if options.multimodal:
            return f"{self._host(options)}{STUDIO_PATH}"
        return super().url(options)


class PaiModelGallery(Provider):
    """PAI-EAS: some models are served at the bare path of a service, others at /v1/embeddings."""

    def url(self, options: EndpointOptions) -> str | None:
        base = self._base(options)
        if base.endswith(("/embeddings", "/v1")):
            return super().url(options)
        return f"{base}/v1/embeddings"

    def other_url(self, options: EndpointOptions) -> str | None:
        """The bare path, unless the endpoint says clearly what it is."""
        bare = options.endpoint
        return bare if bare and f"{bare}/v1/embeddings" == self.url(options) else None


class AiSearch(Provider):
    """AI Search Open Platform: its own API, or its compatible mode if the endpoint names that."""

    def faults(self, options: EndpointOptions) -> list[str | None]:
        faults = super().faults(options)
        if not _compatible(options):
            faults.append(path_fault(options.model_name or "-"))
        return faults

    def image_fault(self, options: EndpointOptions) -> str | None:
        fault = super().image_fault(options)
        if fault is None and _compatible(options):
            return "inputType image: images have no compatible mode: write the host as endpoint"
        return fault

    def opens(self, options: EndpointOptions) -> str:
        return OPENAI if _compatible(options) else AI_SEARCH

    def url(self, options: EndpointOptions) -> str | None:
        if _compatible(options):
            return super().url(options)
        kind = "multi-modal-embedding" if options.multimodal else "text-embedding"
        where = f"/v3/openapi/workspaces/{options.workspace}/{kind}/{options.model_name}"
        return f"{self._host(options)}{where}"


class Connector(Provider):
    """The endpoint of a connector of ml-commons, with the connector's own body."""

    def opens(self, options: EndpointOptions) -> str:
        return CONNECTOR

    def body_fault(self, options: EndpointOptions) -> str | None:
        """See `Provider`."""
        if options.request_body is None:
            return "requestBody is missing: write the request_body of the connector"
        if options.send_dimension:
            return "sendDimension is on, and requestBody says all that is sent: leave it out"
        try:
            around_input(options.request_body, options.model_name or "")
        except ValueError as e:
            return str(e)
        return None

    def spec(self, options: EndpointOptions) -> EndpointSpec:
        return replace(super().spec(options), request_body=options.request_body)


class Local(Provider):
    """A model in this process, which has one thread and no address."""

    def model(self, name: str | None) -> Model | None:
        return Model(dimensions=(256, 128, 64))

    def shown_model(self, name: str | None) -> str:
        return name or LOCAL_MODEL

    def faults(self, options: EndpointOptions) -> list[str | None]:
        name = options.model_name
        if name in (None, "", LOCAL_MODEL, "wordllama"):
            return [self.body_fault(options)]
        return [
            f"modelName {name!r} is not in this process: modelProvider local has only "
            f"{LOCAL_MODEL}: leave modelName out, or name the provider that has it"
        ]

    def opens(self, options: EndpointOptions) -> str:
        return LOCAL

    def url(self, options: EndpointOptions) -> str | None:
        return None


PROVIDERS: dict[str, Provider] = {
    "bailian": Bailian(
        title="Alibaba Cloud Model Studio (Bailian)",
        base="https://dashscope.aliyuncs.com/compatible-mode/v1",
        images=True,
        variables=("DASHSCOPE_API_KEY", "BAILIAN_API_KEY"),
    ),
    "dataworksModelService": Provider(title="a model service deployed in DataWorks"),
    "paiModelGallery": PaiModelGallery(
        title="PAI Model Gallery (PAI-EAS)", auth="raw", chooses=False
    ),
    "aiSearch": AiSearch(
        title="AI Search Open Platform", chooses=False, images=True, request_bytes=8_000_000
    ),
    "openai": Provider(
        title="any OpenAI-compatible server",
        base="https://api.openai.com/v1",
        key_needed=False,
        base64=True,
        variables=("OPENAI_API_KEY",),
    ),
    "connector": Connector(
        title="the endpoint of a connector of ml-commons, such as PolarSearch has",
        key_needed=False,
        chooses=False,
    ),
    "local": Local(
        title="wordllama in this process, offline",
        key_needed=False,
        in_flight=1,
        client=Client("wordllama", "vecferry[local]"),
        defaults={"dimension": 256, "batch_size": 64},
    ),
}
"""By the names that jobs write."""


def key_fault(key: str) -> str | None:
    """Why a key can't be sent in a header, without showing it; None if it can."""
    if key.isascii() and key.isprintable():
        return None
    return (
        "apiKey holds a line break or another character that no key has: was it read from a file "
        "with a line's end?"
    )


def path_fault(name: str) -> str | None:
    """Why a model's name can't stand in a URL's path; None if it can."""
    if re.fullmatch(r"[\w.-]+", name, re.ASCII):
        return None
    return f"modelName {name!r} can't be a service id: it may hold letters, digits, _ . and -"


def _compatible(options: EndpointOptions) -> bool:
    return "/compatible-mode" in (options.endpoint or "")
