"""Tables of MySQL and MariaDB, followed by their binary log.

Beside the modules that every connector has:

- `place`, `gtid`: places in a log, and sets of transactions
- `stream`: the events of a log as they come over a connection
- `events`, `charsets`, `columns`, `fields`, `json_values`, `rows`: their bytes, down to values
- `log`: what happened, in the order of the log
- `server`: what the launcher asks a server of its log
- `chunks`: a full load, cut by the key
- `history`: what the columns of a table were
- `statements`, `alters`: what a statement does to whole tables, and to the values of columns
- `shape`, `rereading`: rows of the job from images of the log, or by their keys
- `following`: a piece of the log as changes
- `xa`: rows of distributed transactions, until they are committed
- `endless`, `tail`, `kept`: the log for ever, in an own pipeline

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.mysql_cdc.endless import ReadMySQLChanges as ReadMySQLChanges
    from vecferry.io.mysql_cdc.settings import MySqlCdcSettings as MySqlCdcSettings
    from vecferry.io.mysql_cdc.transform import ReadFromMySQLSnapshot as ReadFromMySQLSnapshot

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromMySQLSnapshot": "transform",
        "ReadMySQLChanges": "endless",
        "MySqlCdcSettings": "settings",
    },
)
