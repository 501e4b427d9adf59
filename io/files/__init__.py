"""Files in folders, buckets and HDFS, read.

Beside the modules that every connector has:

- `connections`: the data sources that hold files
- `formats`: what turns bytes into rows
- `parsers`: what turns documents into texts
- `stores`: what lists and opens files
- `followed`: the source that follows a folder
- `manifest`: the list of the files that a target holds
- `listing`: the lines of such a list, sorted
- `whole_files`: what reads a file as a document

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
