"""versitygw: an S3 server over a folder, which checks signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.services.install import go_program, package
from tests.services.server import Server

VERSION = "v1.8.0"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "tests-access-key", "tests-secret-key-3141"


class Versitygw(Server):
    """An S3 server with the bucket `bucket`; answers path-style and virtual-host requests."""

    name = "versitygw"
    bucket = "bucket"

    @property
    def url(self) -> str:
        """For path-style requests."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def virtual_url(self) -> str:
        """For requests whose host begins with the bucket's name."""
        return f"http://localhost:{self.port}"

    def install(self) -> None:
        """Builds it."""
        module = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
        self._folder = package(f"versitygw-{VERSION}", lambda f: go_program(f, module))

    def prepare(self) -> None:
        """A bucket is a folder."""
        (self.data / self.bucket).mkdir()

    def command(self) -> list[str]:
        """Its objects are files, so tests can put them there without it."""
        domain = ["--virtual-domain", f"localhost:{self.port}", "--region", REGION]
        port = ["--port", f"127.0.0.1:{self.port}"]
        return [str(self._folder / "versitygw"), *port, *domain, "--quiet", "posix", str(self.data)]

    def environment(self) -> Mapping[str, str]:
        """The keys of its only user."""
        return {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}

    def client(self) -> Any:
        """A boto3 client for tests to write with."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    def ready(self) -> None:
        """The bucket is listed."""
        self.client().list_objects_v2(Bucket=self.bucket, MaxKeys=1)
