"""An emulator of Google Cloud Storage, in memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.services.install import Unavailable
from tests.services.server import Server


class Gcs(Server):
    """A service with the bucket `bucket`."""

    name = "gcs"
    bucket = "bucket"

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def install(self) -> None:
        """Its wheel is among the tools of development."""
        self._program = Path(sys.executable).with_name("gcp-storage-emulator")
        if not self._program.exists():
            raise Unavailable("install gcp-storage-emulator")

    def command(self) -> list[str]:
        """In memory, as on disk it takes no key that ends in a slash."""
        where = ["--host=127.0.0.1", f"--port={self.port}", f"--default-bucket={self.bucket}"]
        return [str(self._program), "start", *where, "--in-memory"]

    def client(self) -> Any:
        """A client for tests to write with."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": self.url}
        return storage.Client("tests", AnonymousCredentials(), client_options=options)

    def ready(self) -> None:
        """The bucket is listed."""
        list(self.client().list_blobs(self.bucket, max_results=1, retry=None, timeout=5))
