"""Texts and images of a row into vectors, as a step of a job."""

from __future__ import annotations

from vecferry.kinds import ConnectionType, Kind

KINDS = (
    Kind(
        "embedding-transformer",
        "transformer",
        settings="vecferry.transforms.embed.settings:EmbedSettings",
        logic="vecferry.transforms.embed.engine:Embedder",
        transform="vecferry.transforms.embed:Embed",
        # Of images: those of the step `file`, and a catalog that knows where its BLOBs lie.
        sources=("local", "oss", "s3", "hdfs", "gcs", "paimon"),
        source_key="imageDatasource",
        source_needed=False,
        beam_yaml="Embed",
        takes=("vectorCache", "trustedEndpoints", "price"),
    ),
)

CONNECTIONS: tuple[ConnectionType, ...] = ()
