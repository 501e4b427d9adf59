"""Documents into chunks, as a step of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

KINDS = (
    Kind(
        "text-splitting",
        "transformer",
        settings="vecferry.transforms.text_split.settings:TextSplitSettings",
        logic="vecferry.transforms.text_split.splitter:Splitter",
        transform="vecferry.transforms.text_split:SplitText",
        client=Client("semantic_text_splitter", "vecferry[splitting]"),
        beam_yaml="SplitText",
    ),
)

CONNECTIONS: tuple[ConnectionType, ...] = ()
