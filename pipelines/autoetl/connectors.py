"""A connector of ml-commons, read as what calls its endpoint: the parameters of an embedding step.

``${parameters.*}`` and ``${credential.*}`` are ml-commons' own. Values of ``credential`` may hold
placeholders of vecferry, such as ``${API_KEY}``, which stay as they are written.

Apart from `vecferry.pipelines.autoetl.jobs` because it knows a body of another program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vecferry.errors import JobError, keep_secret, shorten, without_query
from vecferry.secrets import PLACEHOLDER

KEY = "${CONNECTOR_API_KEY}"
"""What stands for the key of a connector that tells none: a server keeps keys to itself."""
INPUT, MODEL = "${parameters.input}", "${parameters.model}"
PATH = "/embeddings"

_OWN = re.compile(r"\$\{(parameters|credential)\.([\w.-]+)(?::-([^}]*))?\}")
_ENVIRONMENT = re.compile(r"\$\{env:([A-Za-z_]\w*)\}")
_MODEL = re.compile(r'("model"\s*:\s*")((?:[^"\\]|\\.)*)(")')
_BEARER = re.compile(r"Bearer +\$\{credential\.([\w.-]+)\}")
_SET_ANYWAY = ("content-type", "accept", "content-length", "host")
_KNOWN = ("pre_process_function", "post_process_function")


@dataclass(frozen=True)
class Endpoint:
    """What a connector calls.

    Attributes:
      endpoint: the URL up to ``/embeddings``, and its query.
      model: the name of the model.
      request_body: the body, with places for the model and the texts.
      api_key: the key behind the word Bearer; None if none is sent.
      headers: further headers.
    """

    endpoint: str
    model: str
    request_body: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def as_ours(credential: str) -> str:
    """A value of ``credential`` with ``${env:NAME}`` as vecferry writes it."""
    return _ENVIRONMENT.sub(r"${\1}", credential)


def endpoint_of(body: Mapping[str, Any], where: str) -> Endpoint:
    """What a connector calls; JobError holds all that keeps vecferry from calling the same."""
    return _Connector(body, where).endpoint()


class _Connector:
    """Reads one body; problems are collected."""

    def __init__(self, body: Mapping[str, Any], where: str) -> None:
        self._body, self._where = body, where
        self._problems: list[str] = []
        self._parameters = {n: _text(v) for n, v in self._mapping("parameters").items()}
        self._credential = {
            name: as_ours(_text(value)) for name, value in self._mapping("credential").items()
        }
        for value in self._credential.values():
            if not PLACEHOLDER.search(value):
                keep_secret(value)

    def endpoint(self) -> Endpoint:
        """See `endpoint_of`."""
        protocol = str(self._body.get("protocol", "http"))
        if protocol != "http":
            self._problem(f"protocol is {protocol!r}", "only http is known here")
        action = self._action()
        self._check_functions(action)
        url = self._url(action)
        api_key, headers = self._headers(action)
        model, request = self._request(action)
        if self._problems:
            raise JobError(self._problems)
        return Endpoint(url, model, request, api_key, headers)

    def _problem(self, what: str, remedy: str) -> None:
        self._problems.append(f"{self._where}: {what}: {remedy}")

    def _mapping(self, name: str) -> Mapping[str, Any]:
        found = self._body.get(name) or {}
        if isinstance(found, Mapping):
            return found
        self._problem(f"{name} is not an object", "write names and values")
        return {}

    def _action(self) -> Mapping[str, Any]:
        actions = self._body.get("actions")
        found = [
            action
            for action in (actions if isinstance(actions, list) else [])
            if isinstance(action, Mapping)
            and str(action.get("action_type", "")).lower() == "predict"
        ]
        if not found:
            self._problem("it has no action of the type predict", "add the one that embeds")
            return {}
        method = str(found[0].get("method", "POST")).upper()
        if method != "POST":
            self._problem(f"its method is {method}", "only POST is known here")
        return found[0]

    def _check_functions(self, action: Mapping[str, Any]) -> None:
        for key in _KNOWN:
            known = f"connector.{key.removesuffix('_function')}.openai.embedding"
            given = action.get(key)
            if given not in (None, "", known):
                self._problem(
                    f"{key} is {shorten(given, 60)!r}",
                    f"only {known} is known here; embed: server leaves it to the server",
                )

    def _url(self, action: Mapping[str, Any]) -> str:
        written = _text(action.get("url") or "")
        if "${credential." in written:
            self._problem("its url holds a credential", "send the credential in a header")
            return ""
        url = self._filled(written, "url")
        base, mark, query = url.partition("?")
        if action and not base.endswith(PATH):
            self._problem(
                f"its url {without_query(url)!r} does not end with {PATH}",
                "only such endpoints are known here; embed: server leaves it to the server",
            )
        return base.removesuffix(PATH) + mark + query

    def _headers(self, action: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
        """The key, and the headers that are not set anyway."""
        api_key: str | None = None
        headers = {}
        given = action.get("headers") or {}
        for name, value in given.items() if isinstance(given, Mapping) else ():
            lower, text = str(name).lower(), _text(value)
            bearer = _BEARER.fullmatch(text.strip())
            if lower in _SET_ANYWAY:
                continue
            if lower == "authorization" and bearer is not None:
                api_key = self._credential.get(bearer[1], KEY)
            else:
                headers[str(name)] = self._filled(text, f"header {name}", secret=True)
        return api_key, headers

    def _request(self, action: Mapping[str, Any]) -> tuple[str, str]:
        """The model, and the body with a place for its name."""
        written = action.get("request_body")
        if not isinstance(written, str) or not written.strip():
            if action:
                self._problem("it has no request_body", "write the body that the endpoint takes")
            return "", ""
        found = _MODEL.search(written)
        if found is None:
            model = self._parameters.get("model") or str(self._body.get("name") or "connector")
            return model, self._filled(written, "request_body", keep=(INPUT,))
        model = _unescaped(self._filled(found[2], "request_body"))
        before = self._filled(written[: found.start(2)], "request_body", keep=(INPUT,))
        after = self._filled(written[found.end(2) :], "request_body", keep=(INPUT,))
        return model, f"{before}{MODEL}{after}"

    def _filled(
        self, text: str, what: str, *, keep: tuple[str, ...] = (), secret: bool = False
    ) -> str:
        """`text` with the connector's own placeholders filled."""

        def value(match: re.Match[str]) -> str:
            kind, name, default = match.groups()
            if match[0] in keep:
                return match[0]
            if kind == "credential":
                if secret:
                    return self._credential.get(name, KEY)
                self._problem(f"{what} holds a credential", "send the credential in a header")
            elif name in self._parameters:
                return self._parameters[name]
            elif default is not None:
                return default
            else:
                self._problem(
                    f"{what} names {match[0]}, which parameters lack", f"add {name!r} to them"
                )
            return match[0]

        return _OWN.sub(value, text)


def _text(value: object) -> str:
    """A value as ml-commons puts it into a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text
