"""Fields of JSON text into columns, as a step of a job."""

from __future__ import annotations

from vecferry.kinds import ConnectionType, Kind

KINDS = (
    Kind(
        "json-extracting",
        "transformer",
        settings="vecferry.transforms.json_extract.settings:JsonExtractSettings",
        logic="vecferry.transforms.json_extract.extractor:JsonExtractor",
        transform="vecferry.transforms.json_extract:ExtractJson",
        beam_yaml="ExtractJson",
    ),
)

CONNECTIONS: tuple[ConnectionType, ...] = ()
