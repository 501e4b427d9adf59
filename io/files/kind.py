"""Files, whatever store holds them: five names of one step, and five types of data sources."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_S3 = Client("boto3", "vecferry[s3]")
_GCS = Client("google.cloud.storage", "vecferry[gcs]")

SOURCES = {
    "file": ("local", "oss", "s3", "hdfs", "gcs"),
    "oss": ("oss", "s3", "local"),
    "s3": ("s3", "oss", "local"),
    "hdfs": ("hdfs", "local"),
    "gcs": ("gcs", "local"),
}
"""Each stepType with its types of data sources.

A folder stands in for each store, so that a job can be tried on a laptop unchanged. Therefore no
step needs a client, only a data source does.
"""

KINDS = tuple(
    Kind(
        step_type,
        "reader",
        settings="vecferry.io.files.settings:FilesSettings",
        logic="vecferry.io.files.followed:FollowedFiles",
        transform="vecferry.io.files:ReadFiles",
        sources=sources,
        beam_yaml="ReadFiles" if step_type == "file" else None,
    )
    for step_type, sources in SOURCES.items()
)

_BROWSER = "vecferry.io.files.browse:FileBrowser"

CONNECTIONS = (
    ConnectionType("local", "vecferry.io.files.connections:LocalConnection", browser=_BROWSER),
    ConnectionType("oss", "vecferry.io.files.connections:OssConnection", _S3, _BROWSER),
    ConnectionType("s3", "vecferry.io.files.connections:S3Connection", _S3, _BROWSER),
    ConnectionType("hdfs", "vecferry.io.files.connections:HdfsConnection", browser=_BROWSER),
    ConnectionType("gcs", "vecferry.io.files.connections:GcsConnection", _GCS, _BROWSER),
)
