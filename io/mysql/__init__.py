"""Tables of MySQL and MariaDB, read.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.mysql.settings import MySqlConnection as MySqlConnection
    from vecferry.io.mysql.settings import MySqlSettings as MySqlSettings
    from vecferry.io.mysql.transform import ReadFromMySQL as ReadFromMySQL

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromMySQL": "transform",
        "MySqlConnection": "settings",
        "MySqlSettings": "settings",
    },
)
