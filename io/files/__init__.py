"""Files in folders, buckets and HDFS, read.

Beside the modules that every connector has:

- `connections`: the data sources that hold files
- `formats`: what turns bytes into rows
- `stores`: what lists and opens files

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.files.connections import GcsConnection as GcsConnection
    from vecferry.io.files.connections import HdfsConnection as HdfsConnection
    from vecferry.io.files.connections import LocalConnection as LocalConnection
    from vecferry.io.files.connections import OssConnection as OssConnection
    from vecferry.io.files.connections import S3Connection as S3Connection
    from vecferry.io.files.settings import FilesSettings as FilesSettings
    from vecferry.io.files.transform import ReadFiles as ReadFiles

__getattr__ = hands_on(
    __name__,
    {
        "ReadFiles": "transform",
        "FilesSettings": "settings",
        "LocalConnection": "connections",
        "OssConnection": "connections",
        "S3Connection": "connections",
        "HdfsConnection": "connections",
        "GcsConnection": "connections",
    },
)
