"""MariaDB 10.11 of Debian, unpacked and not installed, with a row binlog and TLS."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from tests.services.certificates import make_certificates
from tests.services.install import debian, library_path, package
from tests.services.mysql8 import BINLOG, INIT, MysqlServer


class Mariadb(MysqlServer):
    """MariaDB with the database `shop` and one user who may do everything."""

    name = "mariadb"

    def install(self) -> None:
        """Unpacks Debian's packages."""
        names = ("mariadb-server-core", "mariadb-client-core")
        self._folder = package("mariadb", lambda f: debian(f, *names))

    def prepare(self) -> None:
        """Makes the data folder, and who may log in."""
        make_certificates(self.data)
        (self.data / "init.sql").write_text("SET sql_log_bin = 0;\n" + INIT)
        install = self._folder / "usr/bin/mariadb-install-db"
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        base = ["--no-defaults", f"--basedir={self._folder}/usr", f"--datadir={self.data}/data"]
        subprocess.run(
            [str(install), *base, "--user=root", *options],
            env={**os.environ, **self.environment()},
            check=True,
            capture_output=True,
        )

    def command(self) -> list[str]:
        """Binlog as a reader of change logs needs it."""
        folder = self._folder
        return [
            str(folder / "usr/sbin/mariadbd"),
            "--no-defaults",
            "--user=root",
            f"--basedir={folder}/usr",
            f"--lc-messages-dir={folder}/usr/share/mysql",
            f"--datadir={self.data}/data",
            f"--pid-file={self.data}/pid",
            "--character-set-server=utf8mb4",
            *self.listen(),
            *self.tls(),
            *BINLOG,
        ]

    def environment(self) -> Mapping[str, str]:
        """Its libraries."""
        return {"LD_LIBRARY_PATH": library_path(self._folder)}
