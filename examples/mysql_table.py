"""Writes the trails of examples/data/trails.csv into a table of MySQL, or runs statements.

    python examples/mysql_table.py
    python examples/mysql_table.py "DELETE FROM hiking.trails WHERE id = 3"

The table is ``hiking.trails``, made anew, with the key ``id``. The server is that of
examples/datasources.yaml: MYSQL_HOST, MYSQL_PORT, MYSQL_USER and MYSQL_PASSWORD.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import pymysql

TRAILS = Path(__file__).parent / "data" / "trails.csv"
MAKE = (
    "CREATE DATABASE IF NOT EXISTS hiking CHARACTER SET utf8mb4",
    "DROP TABLE IF EXISTS hiking.trails",
    "CREATE TABLE hiking.trails (id INT PRIMARY KEY, title TEXT, about TEXT, km DOUBLE)",
)


def main(statements: list[str]) -> None:
    """Makes the table or runs the statements, and tells how many rows the table has."""
    given = os.environ
    with pymysql.connect(
        host=given.get("MYSQL_HOST", "127.0.0.1"),
        port=int(given.get("MYSQL_PORT", "3306")),
        user=given.get("MYSQL_USER", "root"),
        password=given.get("MYSQL_PASSWORD", ""),
        autocommit=True,
    ) as connection:
        cursor = connection.cursor()
        for statement in statements or MAKE:
            cursor.execute(statement)
        if not statements:
            with TRAILS.open(encoding="utf-8", newline="") as file:
                rows = [tuple(row.values()) for row in csv.DictReader(file)]
            insert = "INSERT INTO hiking.trails (id, title, about, km) VALUES (%s, %s, %s, %s)"
            cursor.executemany(insert, rows)
        cursor.execute("SELECT COUNT(*) FROM hiking.trails")
        ((count,),) = cursor.fetchall()
        print(f"hiking.trails has {count} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
