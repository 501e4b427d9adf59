"""Steps that leave out rows and edit columns, as steps of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

KINDS = (
    Kind(
        "filter",
        "transformer",
        settings="vecferry.transforms.shape.settings:FilterSettings",
        logic="vecferry.transforms.shape.filtering:Filter",
        transform="vecferry.transforms.shape:FilterRows",
        client=Client("cel", "vecferry[shaping]"),
        beam_yaml="FilterRows",
    ),
    Kind(
        "edit",
        "transformer",
        settings="vecferry.transforms.shape.settings:EditSettings",
        logic="vecferry.transforms.shape.editing:Editor",
        transform="vecferry.transforms.shape:EditColumns",
        beam_yaml="EditColumns",
    ),
    Kind(
        "deduplicate",
        "transformer",
        settings="vecferry.transforms.shape.settings:DeduplicateSettings",
        logic="vecferry.transforms.shape.deduplicating:Deduplicator",
        transform="vecferry.transforms.shape:DeduplicateRows",
        beam_yaml="DeduplicateRows",
    ),
)

CONNECTIONS: tuple[ConnectionType, ...] = ()
