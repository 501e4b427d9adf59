"""Changes of MySQL tables as the source of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

KINDS = (
    Kind(
        "mysql-cdc",
        "reader",
        settings="vecferry.io.mysql_cdc.settings:MySqlCdcSettings",
        logic="vecferry.io.mysql_cdc.source:MySqlChanges",
        transform="vecferry.io.mysql_cdc:ReadFromMySQLSnapshot",
        sources=("mysql",),
        client=Client("pymysql", "vecferry[mysql]"),
        beam_yaml="ReadFromMySQLSnapshot",
    ),
)

CONNECTIONS: tuple[ConnectionType, ...] = ()  # the data source is that of the reader `mysql`
