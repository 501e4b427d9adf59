"""``vecferry polarsearch setup``: lets a PolarSearch embed by itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from vecferry.pipelines.cli.options import env_file, json_option
from vecferry.pipelines.cli.output import say, say_result
from vecferry.pipelines.job.placeholders import Values, parse_assignments

if TYPE_CHECKING:
    from vecferry.pipelines.autoetl.setup import Made

_file = click.Path(dir_okay=False)


@click.group()
def polarsearch() -> None:
    """Prepare a PolarSearch, or an OpenSearch with ml-commons, for embedding."""


@polarsearch.command()
@click.argument("target")
@click.argument("index")
@click.option("--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources.")
@click.option("--connector", type=_file, required=True, help="JSON: the connector (step 3b).")
@click.option("--pipeline", type=_file, required=True, help="JSON: the ingest pipeline (4a).")
@click.option("--index", "index_body", type=_file, required=True, help="JSON: the index (4c).")
@click.option("--trusted", type=_file, help="JSON: endpoints that connectors may call (step 2).")
@click.option("--model-group", "group", type=_file, help="JSON: the group of the model (3a).")
@click.option("--model", type=_file, help="JSON: the model (3c); else named as the connector.")
@click.option("--predict", type=_file, help="JSON: what the model is tried with (3e).")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fill ${NAME} of keys."
)
@env_file
@json_option
def setup(
    target: str,
    index: str,
    data_sources: str | None,
    connector: str,
    pipeline: str,
    index_body: str,
    trusted: str | None,
    group: str | None,
    model: str | None,
    predict: str | None,
    params: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make what is missing for INDEX on the data source TARGET, from the tutorial's bodies.

    A second time, all is found by its name, and nothing changes. The model is asked for one vector.
    """
    from vecferry.pipelines.autoetl.server import opened_definitions
    from vecferry.pipelines.autoetl.setup import read_bodies, set_up
    from vecferry.pipelines.job.datasources import read_data_sources

    values = Values(parse_assignments(params, "-p"))
    files = {
        "connector": connector,
        "pipeline": pipeline,
        "index": index_body,
        "trusted": trusted,
        "group": group,
        "model": model,
        "predict": predict,
    }
    bodies = read_bodies(files, values)
    server = opened_definitions(read_data_sources(data_sources, values), target)
    steps: list[Made] = []

    def on_made(made: Made) -> None:
        steps.append(made)
        if not as_json:
            say(_told(made))

    try:
        set_up(server, bodies, index, on_made)
    finally:
        server.close()
    if as_json:
        say_result({"steps": [dataclasses.asdict(step) for step in steps]})


def _told(made: Made) -> str:
    state = "made" if made.new else "as it was"
    shown = f" ({made.id})" if made.id is not None else ""
    return f"{made.what} {made.name}{shown}: {state}"
