"""Data sources that hold files: a folder, an OSS, S3 or GCS bucket, an HDFS.

Each has `open_files`, the store behind it. A step's paths stay inside the data source's `path`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from vecferry.io.files.stores.base import RETRY_SECONDS, FileStore
from vecferry.settings import Connection, SecretText

_OSS_HOST = re.compile(r"(?:s3\.)?(oss-[\w-]+?)(-internal)?\.aliyuncs\.com")


def _url(given: str) -> str:
    """An http or https address without a path; https where no scheme is written."""
    url = given.strip().rstrip("/")
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        bare = url.rpartition("@")[2].partition("?")[0]
        raise ValueError(f"endpoint {bare!r} is not an address; write https://host:port")
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            "the endpoint holds more than scheme, host and port: bucket, path and keys are "
            "parameters of their own"
        )
    try:
        _ = parts.port
    except ValueError as e:
        raise ValueError(f"endpoint {url!r} has a wrong port") from e
    return f"{parts.scheme}://{parts.netloc}"


def _inside(given: str) -> str:
    """A folder within a store, without slashes around it."""
    names = [n for n in given.split("/") if n not in ("", ".")]
    if ".." in names:
        raise ValueError(f"{given!r} leads out of the store; write the folder without ..")
    return "/".join(names)


def _given(key: str | None) -> str | None:
    if key is not None and not key.strip():
        raise ValueError('the key is empty: write it, or name its variable, such as "${AK}"')
    return key


Url = Annotated[str, AfterValidator(_url)]
Folder = Annotated[str, AfterValidator(_inside)]
Key = Annotated[SecretText, AfterValidator(_given)]
Bucket = Annotated[str, Field(pattern=r"^[^/\s:]+$")]


class FileConnection(Connection):
    """The base of all data sources that hold files."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of URLs that name such files."""

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The store; its clients are made once in each process. Nothing is connected to yet.

        `retry_seconds` is how long a call may be repeated while the service is away; None never
        gives up.
        """
        raise NotImplementedError


class LocalConnection(FileConnection):
    """A data source that is a folder of this machine; paths of a step stay inside it."""

    type: Literal["local"] = "local"
    path: str = Field(min_length=1)

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The folder; nothing is repeated."""
        from vecferry.io.files.stores.local import LocalStore

        return LocalStore(self.path)

    def local_path(self) -> str:
        """The folder."""
        return self.path


class _BucketConnection(FileConnection):
    """A bucket, or the folder `path` of it; `prefix` is another name for `path`."""

    bucket: Bucket
    path: Folder = Field(default="", validation_alias=AliasChoices("path", "prefix"))

    def at(self, url: str) -> Self | None:
        """The bucket at another folder."""
        parts = urlsplit(url)
        if parts.scheme not in self.schemes or parts.netloc != self.bucket:
            return None
        return self.model_copy(update={"path": _inside(parts.path)})


def _s3_store(connection: S3Connection | OssConnection, retry_seconds: float | None) -> FileStore:
    from vecferry.io.files.stores.s3 import S3Access, S3Store

    access = S3Access(
        kind=connection.type,
        bucket=connection.bucket,
        folder=connection.path,
        endpoint=connection.service,
        region=connection.region,
        key_id=connection.access_key_id,
        key=connection.access_key_secret,
        token=connection.session_token,
        path_style=connection.path_style,
        ca_cert=connection.ca_cert,
    )
    return S3Store(access, retry_seconds)


class S3Connection(_BucketConnection):
    """A bucket of any service that speaks S3.

    Without an endpoint it is Amazon's. Without keys boto3 looks for them in its own places:
    environment, profile, role of the machine.
    """

    schemes = ("s3", "s3a", "s3n")

    type: Literal["s3"] = "s3"
    endpoint: Url | None = None
    region: str = "us-east-1"
    access_key_id: Key | None = None
    access_key_secret: Key | None = Field(
        default=None,
        validation_alias=AliasChoices("accessKeySecret", "secretAccessKey", "access_key_secret"),
    )
    session_token: SecretText | None = None
    path_style: bool = False
    ca_cert: str | None = None

    @model_validator(mode="after")
    def _both_keys(self) -> S3Connection:
        if (self.access_key_id is None) != (self.access_key_secret is None):
            raise ValueError("accessKeyId and accessKeySecret go together: give both, or neither")
        return self

    @property
    def service(self) -> str | None:
        """The address of the S3 API."""
        return self.endpoint

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The bucket, by boto3."""
        return _s3_store(self, retry_seconds)


class OssConnection(_BucketConnection):
    """A bucket of Alibaba Cloud OSS, reached by its S3-compatible API, as virtual host.

    The endpoint is the one of OSS itself (``oss-cn-hangzhou.aliyuncs.com``, ``…-internal…``).
    """

    schemes = ("oss",)

    type: Literal["oss"] = "oss"
    endpoint: Url
    region: str = ""
    access_key_id: Key
    access_key_secret: Key
    session_token: SecretText | None = Field(
        default=None,
        validation_alias=AliasChoices("securityToken", "sessionToken", "session_token"),
    )
    ca_cert: str | None = None

    path_style: ClassVar[bool] = False

    @model_validator(mode="after")
    def _bucket_apart(self) -> OssConnection:
        if (urlsplit(self.endpoint).hostname or "").startswith(f"{self.bucket}."):
            raise ValueError(
                f"the endpoint names the bucket already: leave '{self.bucket}.' out of it"
            )
        if not self.region:
            found = _OSS_HOST.fullmatch(urlsplit(self.endpoint).hostname or "")
            region = found[1].removeprefix("oss-") if found else "us-east-1"
            object.__setattr__(self, "region", region)
        return self

    @property
    def service(self) -> str:
        """The address of the S3 API: Alibaba Cloud has a host of its own for it."""
        parts = urlsplit(self.endpoint)
        if _OSS_HOST.fullmatch(parts.hostname or "") and not parts.netloc.startswith("s3."):
            return f"{parts.scheme}://s3.{parts.netloc}"
        return self.endpoint

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The bucket, by boto3."""
        return _s3_store(self, retry_seconds)


class HdfsConnection(FileConnection):
    """An HDFS, or the folder `path` of it, reached by WebHDFS or HttpFS.

    `endpoint` is the HTTP address of the name node, ``http://nn:9870``. `defaultFS` is the name by
    which jobs know the file system, ``hdfs://nn:8020``, if its host differs.
    """

    schemes = ("hdfs",)

    type: Literal["hdfs"] = "hdfs"
    endpoint: Url
    user: str | None = None
    path: Folder = ""
    default_fs: str | None = Field(
        default=None,
        validation_alias=AliasChoices("defaultFS", "default_fs"),
        pattern=r"^hdfs://[^/]+/?$",
    )
    ca_cert: str | None = None

    ignored: ClassVar[frozenset[str]] = frozenset({"haveKerberos", "hadoopConfig"})

    @model_validator(mode="before")
    @classmethod
    def _no_kerberos(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kerberos = [k for k in ("kerberosPrincipal", "kerberosKeytabFilePath") if given.get(k)]
        if str(given.get("haveKerberos", "")).lower() == "true" or kerberos:
            raise ValueError(
                "Kerberos is not supported, only the simple authentication by a name; reach the "
                "cluster by an HttpFS gateway, or copy the files to another store"
            )
        if str(given.get("endpoint", "")).startswith("hdfs://"):
            raise ValueError(
                "the endpoint is the name node's RPC address: write its HTTP address, such as "
                "http://namenode:9870"
            )
        return given

    def at(self, url: str) -> Self | None:
        """The file system at another folder; an URL without a host means any file system."""
        parts = urlsplit(url)
        known = {"", urlsplit(self.endpoint).netloc, urlsplit(self.default_fs or "").netloc}
        host = urlsplit(self.endpoint).hostname
        if parts.scheme not in self.schemes:
            return None
        if parts.netloc not in known and parts.hostname != host:
            return None
        return self.model_copy(update={"path": _inside(parts.path)})

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The file system, by WebHDFS."""
        from vecferry.io.files.stores.hdfs import HdfsAccess, HdfsStore

        access = HdfsAccess(
            folder=self.path,
            endpoint=self.endpoint,
            user=self.user,
            default_fs=self.default_fs,
            ca_cert=self.ca_cert,
        )
        return HdfsStore(access, retry_seconds)


def _credentials(given: Any) -> Any:
    """A key as a mapping becomes JSON text, as which it is pickled and kept secret."""
    return json.dumps(given) if isinstance(given, dict) else given or None


def _service_key(given: str | None) -> str | None:
    if given and given.lstrip().startswith("{"):
        try:
            kind = json.loads(str.__str__(given)).get("type")
        except ValueError:
            raise ValueError("credentials: the JSON is not complete") from None
        if not kind:
            raise ValueError(
                "credentials: the JSON has no `type`; give the JSON of a key of a service account"
            )
    return given


class GcsConnection(_BucketConnection):
    """A bucket of Google Cloud Storage.

    `credentials` is the key of a service account: a path, or the JSON itself; ``anonymous`` sends
    none. Without it, Google's default credentials are looked for, but none where `endpoint` names
    another service, such as an emulator.
    """

    schemes = ("gs", "gcs")

    type: Literal["gcs"] = "gcs"
    endpoint: Url | None = None
    credentials: Annotated[
        SecretText | None, BeforeValidator(_credentials), AfterValidator(_service_key)
    ] = None

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The bucket, by google-cloud-storage."""
        from vecferry.io.files.stores.gcs import GcsAccess, GcsStore

        access = GcsAccess(
            bucket=self.bucket,
            folder=self.path,
            endpoint=self.endpoint,
            credentials=self.credentials,
        )
        return GcsStore(access, retry_seconds)
