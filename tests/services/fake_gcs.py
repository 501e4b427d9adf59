"""fake-gcs-server: an emulator of Google Cloud Storage that holds to preconditions, in memory.

The emulator of `tests.services.gcs` overwrites objects, whatever generation a request asks for.
"""

from __future__ import annotations

import contextlib
from typing import Any

from tests.services.install import go_program, package
from tests.services.server import Server

VERSION = "v1.52.2"


class FakeGcs(Server):
    """A service with the bucket `bucket`."""

    name = "fake-gcs-server"
    bucket = "bucket"

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def install(self) -> None:
        """Builds it."""
        module = f"github.com/fsouza/fake-gcs-server@{VERSION}"
        self._folder = package(f"fake-gcs-server-{VERSION}", lambda f: go_program(f, module))

    def command(self) -> list[str]:
        """In memory."""
        where = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)]
        public = ["-public-host", f"127.0.0.1:{self.port}", "-external-url", self.url]
        return [str(self._folder / "fake-gcs-server"), *where, *public, "-backend", "memory"]

    def client(self) -> Any:
        """A client for tests."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": self.url}
        return storage.Client("tests", AnonymousCredentials(), client_options=options)

    def ready(self) -> None:
        """The bucket is made, and listed."""
        from google.api_core.exceptions import Conflict

        with contextlib.suppress(Conflict):
            self.client().create_bucket(self.bucket, timeout=5, retry=None)
        list(self.client().list_blobs(self.bucket, max_results=1, retry=None, timeout=5))
