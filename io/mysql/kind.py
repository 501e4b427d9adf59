"""Tables of MySQL and MariaDB as the source of a job."""

from __future__ import annotations

from vecferry.kinds import Client, ConnectionType, Kind

_CLIENT = Client("pymysql", "vecferry[mysql]")

KINDS = (
    Kind(
        "mysql",
        "reader",
        settings="vecferry.io.mysql.settings:MySqlSettings",
        logic="vecferry.io.mysql.source:MySqlSource",
        transform="vecferry.io.mysql:ReadFromMySQL",
        sources=("mysql",),
        client=_CLIENT,
        beam_yaml="ReadFromMySQL",
    ),
)

CONNECTIONS = (
    ConnectionType(
        "mysql",
        "vecferry.io.mysql.settings:MySqlConnection",
        _CLIENT,
        "vecferry.io.mysql.browse:MySqlBrowser",
    ),
)
