"""Makes what PolarSearch needs to embed, from the bodies of its tutorial, in their order.

What is there under its name is found and used again, so that a second time changes nothing. The
definitions refer to each other by ids, which the server gives: each id goes into the next body.

Apart from `vecferry.pipelines.cli.polarsearch` because it knows no command line.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vecferry.errors import JobError, keep_secret
from vecferry.pipelines.autoetl.bodies import Document, body_of
from vecferry.pipelines.autoetl.connectors import as_ours
from vecferry.pipelines.autoetl.ingest import PROCESSOR, default_pipeline, dimension_of, ingest_of
from vecferry.pipelines.autoetl.server import Makes
from vecferry.pipelines.job.placeholders import fill

TRUSTED = "plugins.ml_commons.trusted_connector_endpoints_regex"
_ACTION = (
    "url", "method", "request_body", "headers", "pre_process_function", "post_process_function"
)  # fmt: skip
"""What an action does; its other keys are the server's own."""


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """The bodies of the tutorial, by step; a body that is left out is the plainest one.

    Attributes:
      trusted: step 2, the endpoints that connectors may call; None leaves them as they are.
      group: step 3a, the group of the model; None makes none.
      connector: step 3b.
      model: step 3c; None takes the connector's name.
      predict: step 3e, what the model is tried with; None takes a text of two words.
      pipeline: step 4a.
      index: step 4c.
    """

    connector: Document
    pipeline: Document
    index: Document
    trusted: Document | None = None
    group: Document | None = None
    model: Document | None = None
    predict: Document | None = None


@dataclass(frozen=True)
class Made:
    """What became of a definition: whether it was made, or there already, and its id."""

    what: str
    name: str
    id: str | None
    new: bool


def read_bodies(files: Mapping[str, str | None], values: Mapping[str, str]) -> Bodies:
    """The bodies in files; credentials of the connector are filled from `values`."""
    found = {name: body_of(path, name) for name, path in files.items() if path is not None}
    connector = found["connector"]
    given = connector.get("credential") or {}
    if not isinstance(given, dict):
        raise JobError("the credential of the connector is not an object: write names and values")
    ours = {name: as_ours(str(value)) for name, value in given.items()}
    filled, problems = fill(ours, values, "connector.credential")
    if problems:
        raise JobError(problems)
    for value in filled.values():
        keep_secret(value)
    if filled:
        found["connector"] = {**connector, "credential": filled}
    return Bodies(**found)


def set_up(server: Makes, bodies: Bodies, index: str, on_made: Callable[[Made], None]) -> None:
    """Makes all that is missing; `on_made` is told of each step. Raises JobError."""
    pipeline = default_pipeline(bodies.index)
    if pipeline is None:
        raise JobError(
            "the body of the index names no pipeline: add settings.index.default_pipeline, which "
            "is the pipeline's name"
        )
    ingest = ingest_of(bodies.pipeline, "the body of the pipeline")
    if bodies.trusted is not None:
        on_made(_trust(server, bodies.trusted))
    group = None
    if bodies.group is not None:
        group = _group(server, bodies.group)
        on_made(group)
    connector = _connector(server, bodies.connector)
    on_made(connector)
    model = _model(server, bodies, connector, group)
    on_made(model)
    model_id = str(model.id)
    on_made(_deployed(server, model))
    known = [dimension_of(bodies.index, field) for field in ingest.field_map.values()]
    on_made(_tried(server, model, bodies.predict, {d for d in known if d is not None}))
    on_made(_pipeline(server, pipeline, bodies.pipeline, model_id))
    on_made(_index(server, index, bodies.index))


def _name_of(body: Document, what: str) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise JobError(f"the body of the {what} has no name, by which it is found again: add one")
    return name


def _trust(server: Makes, body: Document) -> Made:
    """Step 2: lets connectors call more endpoints; those that they may call already stay."""
    wanted = _patterns(body)
    before = server.trusted() or []
    both = list(dict.fromkeys([*before, *wanted]))
    if both != before:
        server.put_settings({"persistent": {TRUSTED: both}})
        if server.trusted() != both:
            raise JobError(
                f"{server.where}: {TRUSTED} has a transient value, which hides the persistent one: "
                "set the transient one to null, then run the command again"
            )
    return Made("trusted endpoints", ", ".join(wanted), None, both != before)


def _patterns(body: Document) -> list[str]:
    for kind in ("persistent", "transient"):
        found: Any = body.get(kind)
        if isinstance(found, Mapping) and TRUSTED in found:
            found = found[TRUSTED]
            return [str(one) for one in (found if isinstance(found, list) else [found])]
    raise JobError(f"the body of the trusted endpoints has no persistent {TRUSTED}: add it")


def _group(server: Makes, body: Document) -> Made:
    name = _name_of(body, "model group")
    found = server.ids_named("model_groups", name)
    made = found[0] if found else server.create("model_groups/_register", body, "model_group_id")
    return Made("model group", name, made, not found)


def _connector(server: Makes, body: Document) -> Made:
    """Step 3b; a connector of the same name must do the same."""
    name = _name_of(body, "connector")
    found = server.ids_named("connectors", name)
    for one in found:
        there = server.connector(one)
        if there is not None and _done(there) == _done(body):
            return Made("connector", name, one, False)
    if found:
        raise JobError(
            f"{server.where}: connector {name!r} ({found[0]}) is there, and does not do what the "
            "body says: give the body another name, or delete that connector"
        )
    return Made("connector", name, server.create("connectors/_create", body, "connector_id"), True)


def _done(body: Document) -> Document:
    """What a connector does, apart from its key and its words."""
    parameters = {str(k): str(v) for k, v in (body.get("parameters") or {}).items()}
    actions = [
        {key: action.get(key) for key in _ACTION}
        for action in body.get("actions") or []
        if str(action.get("action_type", "")).lower() == "predict"
    ]
    return {"protocol": body.get("protocol"), "parameters": parameters, "actions": actions}


def _model(server: Makes, bodies: Bodies, connector: Made, group: Made | None) -> Made:
    """Step 3c; a model of the same name must call the same connector."""
    body = {"name": connector.name, "function_name": "remote", **(bodies.model or {})}
    body["connector_id"] = connector.id
    if group is not None:
        body["model_group_id"] = group.id
    name = _name_of(body, "model")
    found = server.ids_named("models", name)
    for one in found:
        if (server.model(one) or {}).get("connector_id") == connector.id:
            return Made("model", name, one, False)
    if found:
        raise JobError(
            f"{server.where}: model {name!r} ({found[0]}) is there, and calls another connector: "
            "give the body another name, or delete that model"
        )
    return Made("model", name, server.create("models/_register", body, "model_id"), True)


def _deployed(server: Makes, model: Made) -> Made:
    state = (server.model(str(model.id)) or {}).get("model_state")
    if state != "DEPLOYED":
        server.deploy(str(model.id))
    return Made("deployed model", model.name, model.id, state != "DEPLOYED")


def _tried(server: Makes, model: Made, body: Document | None, known: set[int]) -> Made:
    """Step 3e: the model must give vectors of the index's size."""
    wanted = body or {"parameters": {"input": ["hello world"]}}
    answer = server.predict(str(model.id), wanted)
    try:
        shape = answer["inference_results"][0]["output"][0]["shape"]
    except (KeyError, IndexError, TypeError):
        raise JobError(
            f"{server.where}: model {model.name!r} gave no vector: check the connector, whose "
            "post_process_function makes the vectors of an answer"
        ) from None
    if known and shape != [next(iter(known))] * len(shape):
        raise JobError(
            f"{server.where}: model {model.name!r} gives vectors of {shape} dimensions, and the "
            f"index says {', '.join(map(str, sorted(known)))}: make both the same"
        )
    return Made("answer of the model", f"a vector of {shape[0]} dimensions", None, False)


def _pipeline(server: Makes, name: str, body: Document, model_id: str) -> Made:
    filled = copy.deepcopy(body)
    for processor in filled["processors"]:
        processor[PROCESSOR]["model_id"] = model_id
    same = server.pipeline(name) == filled
    if not same:
        server.put_pipeline(name, filled)
    return Made("pipeline", name, None, not same)


def _index(server: Makes, name: str, body: Document) -> Made:
    there = server.index(name) is not None
    if not there:
        server.create_index(name, body)
    return Made("index", name, None, not there)
