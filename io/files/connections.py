"""Data sources that hold files: a folder, an OSS, S3 or GCS bucket, an HDFS.

Each has `open_files`, the store behind it. A step's paths stay inside the data source's `path`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from vecferry.fields import SourceType, in_form
from vecferry.io.files.stores.base import RETRY_SECONDS, FileStore
from vecferry.secrets import secret_of
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
        raise ValueError(
            f"endpoint {url!r} has a wrong port; write a number from 1 to 65535"
        ) from e
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


OSS_VARIABLES = {
    "access_key_id": "OSS_ACCESS_KEY_ID",
    "access_key_secret": "OSS_ACCESS_KEY_SECRET",
}
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

    type: SourceType[Literal["local"]] = "local"
    path: str = Field(
        min_length=1,
        description="a folder of this machine",
        examples=["data"],
        json_schema_extra=in_form("connection"),
    )

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The folder; nothing is repeated."""
        from vecferry.io.files.stores.local import LocalStore

        return LocalStore(self.path)

    def local_path(self) -> str:
        """The folder."""
        return self.path

    def paths(self) -> dict[str, str]:
        """The folder."""
        return {"path": self.path}


class StdinConnection(FileConnection):
    """Standard input, which the path ``-`` of a step means; no data source names it."""

    type: Literal["stdin"] = "stdin"

    def open_files(self, retry_seconds: float | None = RETRY_SECONDS) -> FileStore:
        """The one file; nothing is read yet."""
        from vecferry.io.files.stores.stdin import StdinStore

        return StdinStore()


class _BucketConnection(FileConnection):
    """A bucket, or the folder `path` of it; `prefix` is another name for `path`."""

    bucket: Bucket = Field(
        description="the bucket", examples=["books"], json_schema_extra=in_form("connection")
    )
    path: Folder = Field(
        default="",
        validation_alias=AliasChoices("path", "prefix"),
        description="a folder in the bucket; paths of a job lie within",
        examples=["2026/"],
        json_schema_extra=in_form("connection", otherwise="the whole bucket"),
    )

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

    type: SourceType[Literal["s3"]] = "s3"
    endpoint: Url | None = Field(
        default=None,
        description="the address of the service",
        examples=["http://localhost:9000"],
        json_schema_extra=in_form("connection", otherwise="Amazon's"),
    )
    region: str = Field(
        default="us-east-1",
        description="the region",
        examples=["eu-central-1"],
        json_schema_extra=in_form("connection"),
    )
    access_key_id: Key | None = Field(
        default=None,
        description="the key of a user with `s3:GetObject` and `s3:ListBucket`",
        examples=["${S3_ID}"],
        json_schema_extra=in_form("login", otherwise="the environment's"),
    )
    access_key_secret: Key | None = Field(
        default=None,
        validation_alias=AliasChoices("accessKeySecret", "secretAccessKey", "access_key_secret"),
        description="the secret of the key",
        examples=["${S3_SECRET}"],
        json_schema_extra=in_form("login", otherwise="the environment's"),
    )
    session_token: SecretText | None = Field(
        default=None,
        description="the token of temporary keys",
        examples=["${S3_TOKEN}"],
        json_schema_extra=in_form("login", advanced=True),
    )
    path_style: bool = Field(
        default=False,
        description="true: the bucket is in the path, as MinIO wants it; false: in the host's name",
        json_schema_extra=in_form("connection", advanced=True),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file of certificates to trust",
        examples=["/etc/ssl/store.pem"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="the usual authorities"),
    )

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
    variables = OSS_VARIABLES

    type: SourceType[Literal["oss"]] = "oss"
    endpoint: Url = Field(
        description="an address of OSS, public or internal; without a scheme, `https`",
        examples=["oss-cn-hangzhou.aliyuncs.com"],
        json_schema_extra=in_form("connection"),
    )
    region: str = Field(
        default="",
        description="the region, which is part of the signature",
        examples=["cn-hangzhou"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="from the endpoint"),
    )
    access_key_id: Key = Field(
        description="the key of a RAM user with `oss:GetObject` on the objects and "
        "`oss:ListObjects` on the bucket",
        examples=["${OSS_ID}"],
        json_schema_extra=in_form("login"),
    )
    access_key_secret: Key = Field(
        description="the secret of the key",
        examples=["${OSS_SECRET}"],
        json_schema_extra=in_form("login"),
    )
    session_token: SecretText | None = Field(
        default=None,
        validation_alias=AliasChoices("securityToken", "sessionToken", "session_token"),
        description="the token of temporary keys (STS)",
        examples=["${OSS_TOKEN}"],
        json_schema_extra=in_form("login", advanced=True),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file of certificates to trust",
        examples=["/etc/ssl/store.pem"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="the usual authorities"),
    )

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

    type: SourceType[Literal["hdfs"]] = "hdfs"
    endpoint: Url = Field(
        description="the name node's HTTP address, not its RPC address",
        examples=["http://namenode:9870"],
        json_schema_extra=in_form("connection"),
    )
    user: str | None = Field(
        default=None,
        description="who reads; the cluster must run with simple authentication, which does not "
        "verify the user",
        examples=["reader"],
        json_schema_extra=in_form("login"),
    )
    path: Folder = Field(
        default="",
        description="a folder of the cluster; paths of a job lie within",
        examples=["/data"],
        json_schema_extra=in_form("connection", otherwise="the whole cluster"),
    )
    default_fs: str | None = Field(
        default=None,
        validation_alias=AliasChoices("defaultFS", "default_fs"),
        pattern="^hdfs://[^/]+/?$",
        title="Default file system",
        description="the name under which jobs know the cluster",
        examples=["hdfs://mycluster"],
        json_schema_extra=in_form(
            "connection", advanced=True, otherwise="`hdfs://` and the endpoint's host"
        ),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file of certificates to trust",
        examples=["/etc/ssl/store.pem"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="the usual authorities"),
    )

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
        except (ValueError, RecursionError):
            raise ValueError(
                "credentials: the JSON is not complete; give the whole JSON of a key of a service "
                "account"
            ) from None
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

    type: SourceType[Literal["gcs"]] = "gcs"
    endpoint: Url | None = Field(
        default=None,
        description="the address of an emulator",
        examples=["http://localhost:4443"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="Google's"),
    )
    credentials: Annotated[
        SecretText | None, BeforeValidator(_credentials), AfterValidator(_service_key)
    ] = Field(
        default=None,
        description="a service account's key, as a path or as JSON; `anonymous` for public buckets",
        examples=["key.json"],
        json_schema_extra=in_form("login", otherwise="Google's default credentials"),
    )

    def paths(self) -> dict[str, str]:
        """The file of the key, if it is a file."""
        key = None if self.credentials is None else str.__str__(self.credentials)
        named = key and key != "anonymous" and not key.lstrip().startswith("{")
        return {"credentials": key} if key and named else {}

    def with_paths(self, paths: Mapping[str, str]) -> Self:
        """The data source with another file of its key."""
        return self.model_copy(update={n: secret_of(path) for n, path in paths.items()})

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
