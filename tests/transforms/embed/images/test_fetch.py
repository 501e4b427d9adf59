"""Images from URLs and paths: where a row may lead us, and what becomes of hosts that fail."""

from __future__ import annotations

import io
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.images.support import DIMENSION, ImageServer, image_settings, png
from tests.transforms.embed.support import context, good, rejects, run
from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.io.files import LocalConnection
from vecferry.rows import Reject
from vecferry.transforms.embed.endpoints.base import Image
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.embed.images import address as embed_image_address
from vecferry.transforms.embed.images import load as embed_image_load
from vecferry.transforms.embed.images.address import checked_addresses
from vecferry.transforms.embed.images.content import ImageSource


def fate(server: EndpointServer, value: Any, **more: Any) -> Any:
    """What becomes of one row: its `Change`, or its `Reject`."""
    settings = image_settings(server, **({"allowPrivateAddresses": True} | more))
    (out,) = run(Embedder(settings, None, context()), [{"pic": value}])
    return out


def reason(server: EndpointServer, value: Any, **more: Any) -> str:
    """Why a row was rejected."""
    out = fate(server, value, **more)
    assert isinstance(out, Reject), out
    return out.reason


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::1]", "0"]
)
def test_loopback_is_refused_however_it_is_written(
    server: EndpointServer, host: ImageServer, name: str
) -> None:
    """The address counts, not its spelling; no byte goes out."""
    assert (
        reason(server, host.url("/a.png", name), allowPrivateAddresses=False)
        == "image-private-address"
    )
    assert host.seen == {}


def test_a_private_address_may_be_allowed(server: EndpointServer, host: ImageServer) -> None:
    """For images on a host of one's own."""
    out = fate(server, host.url("/a.png"))
    assert (out["vector"] == vector_of(png(1), DIMENSION)).all()


class Names:
    """Answers for names that stand in it, one after the other; counts how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]]):
        self.answers, self.asked = answers, 0
        self.real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, name: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        """The next answer for a name that is known here; others are looked up."""
        if name not in self.answers:
            return self.real(name, port, *args, **kwargs)
        self.asked += 1
        answers = self.answers[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (address, port)) for address in found]


def test_one_private_answer_of_many_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public address and to a private one is not fetched at all."""
    Names(monkeypatch, {"images.test": [["93.184.216.34", "10.0.0.1"]]})
    with pytest.raises(TerminalError, match=r"10\.0\.0\.1") as e:
        checked_addresses("images.test", 80)
    assert e.value.reason == "image-private-address"


def test_a_connection_goes_to_the_address_that_was_checked(
    server: EndpointServer, host: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means another address a moment later (DNS rebinding) gains nothing."""
    names = Names(monkeypatch, {"images.test": [["127.0.0.1"], ["192.168.0.1"]]})
    monkeypatch.setattr(embed_image_address, "is_public", lambda address: address == "127.0.0.1")
    out = fate(server, host.url("/a.png", "images.test"), allowPrivateAddresses=False)
    assert (out["vector"] == vector_of(png(1), DIMENSION)).all()
    assert names.asked == 1
    assert host.headers[0]["host"] == f"images.test:{host.port}"


def certificate(folder: Path, name: str) -> Path:
    """A file with a key and a certificate for `name`, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path = folder / f"{name}.pem"
    path.write_bytes(private + made.public_bytes(encoding))
    return path


@pytest.mark.parametrize(("name", "good_name"), [("images.test", True), ("other.test", False)])
def test_tls_is_verified_against_the_name_of_the_url(
    server: EndpointServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    good_name: bool,
) -> None:
    """Though the connection is made to an address, the certificate must be the name's."""
    pem = certificate(tmp_path, "images.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    monkeypatch.setattr(embed_image_address, "is_public", lambda address: True)
    Names(monkeypatch, {"images.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    with ImageServer({"/a": png(1)}, certificate=pem) as tls:
        out = fate(server, tls.url("/a", name), allowPrivateAddresses=False)
    if good_name:
        assert (out["vector"] == vector_of(png(1), DIMENSION)).all()
    else:
        assert out.reason == "image-refused"
        assert "certificate" in out.message


def test_an_unknown_authority_is_refused(server: EndpointServer, tmp_path: Path) -> None:
    """A certificate that nobody trusts is the row's fault, not a server that is away."""
    pem = certificate(tmp_path, "localhost")
    with ImageServer({"/a": png(1)}, certificate=pem) as tls:
        assert reason(server, tls.url("/a", "localhost")) == "image-refused"


def test_redirects_are_followed_three_times(server: EndpointServer, host: ImageServer) -> None:
    """By relative and absolute addresses; the fourth is one too many."""
    for i in range(5):
        target = f"/{i + 1}" if i % 2 else host.url(f"/{i + 1}")
        host.routes[f"/{i}"] = (302, {"Location": target}, b"")
    host.routes["/5"] = png(2)
    assert (fate(server, host.url("/2"))["vector"] == vector_of(png(2), DIMENSION)).all()
    assert reason(server, host.url("/1")) == "image-refused"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file:///etc/passwd", "image-refused"),
        ("ftp://127.0.0.1/a", "image-refused"),
        ("http://192.168.7.7/a", "image-private-address"),
        ("http://169.254.169.254/latest/meta-data", "image-private-address"),
        ("//[::1", "image-refused"),
        ("", "image-refused"),
    ],
)
def test_a_redirect_is_checked_as_a_url_of_its_own(
    server: EndpointServer,
    host: ImageServer,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    why: str,
) -> None:
    """A public host can't lead us to a private one, or to another kind of address."""
    is_right = embed_image_address.is_public
    public = lambda address: address == "127.0.0.1" or is_right(address)  # noqa: E731
    monkeypatch.setattr(embed_image_address, "is_public", public)
    host.routes["/r"] = (301, {"Location": target} if target else {}, b"")
    assert reason(server, host.url("/r"), allowPrivateAddresses=False) == why


def test_an_image_url_obeys_the_trusted_endpoints(
    server: EndpointServer, host: ImageServer
) -> None:
    """As a whole, at each redirect, and whatever stands before an @."""
    host.routes["/r"] = (302, {"Location": host.url("/a.png", "localhost")}, b"")
    trusted = [rf"http://127\.0\.0\.1:{host.port}/.*"]
    assert not isinstance(fate(server, host.url("/a.png"), trustedEndpoints=trusted), Reject)
    for url in (
        host.url("/a.png", "localhost"),
        host.url("/r"),
        f"http://127.0.0.1:{host.port}@localhost:{host.port}/a.png",
        f"x{host.url('/a.png')}"[1:].replace("http", "HTTP"),
    ):
        assert reason(server, url, trustedEndpoints=trusted) == "image-untrusted"
    assert reason(server, host.url("/a.png"), trustedEndpoints=[]) == "image-untrusted"
    assert host.seen == {"/a.png": 1, "/r": 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, {}, b""), "image-not-found"),
        ((410, {}, b""), "image-not-found"),
        ((403, {}, b""), "image-refused"),
        ((415, {}, b""), "image-refused"),
        ((204, {}, b""), "image-refused"),
        ((200, {}, b""), "empty-image"),
        ((200, {"Content-Type": "image/png"}, b"<html>log in</html>"), "bad-image"),
        ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "image-refused"),
        ((200, {"Content-Length": "9999999"}, b""), "image-too-large"),
    ],
    ids=str,
)
def test_what_a_host_says_of_one_image_is_that_rows_fault(
    server: EndpointServer, host: ImageServer, answer: Any, why: str
) -> None:
    """It is asked once, and the rest goes on."""
    host.routes["/x"] = answer
    assert reason(server, host.url("/x")) == why
    assert host.seen["/x"] == 1


def test_a_body_without_end_is_left_at_the_limit(server: EndpointServer, host: ImageServer) -> None:
    """Where the host names no length, reading stops past what the model takes."""
    chunk = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    host.routes["/endless"] = (200, {"Transfer-Encoding": "chunked"}, chunk * 8)
    out = fate(server, host.url("/endless"))
    assert out.reason == "image-too-large"
    assert "imageMaxPixels" in out.message


def flaky(times: int, good_answer: bytes, status: int = 503) -> Any:
    """An answer that fails so often before it is good."""
    left = [times]

    def answer() -> Any:
        left[0] -= 1
        return (status, {}, b"") if left[0] >= 0 else (200, {}, good_answer)

    return answer


@pytest.mark.usefixtures("virtual_time")
def test_a_host_in_trouble_is_asked_again(server: EndpointServer, host: ImageServer) -> None:
    """5xx and 429 pass; the row gets its vector."""
    host.routes["/503"] = flaky(2, png(1))
    host.routes["/429"] = flaky(1, png(2), 429)
    for path, seed in (("/503", 1), ("/429", 2)):
        out = fate(server, host.url(path))
        assert (out["vector"] == vector_of(png(seed), DIMENSION)).all()


def dead_url() -> str:
    """A URL where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/a.png?Signature=secret-of-the-url"


@pytest.mark.slow
def test_a_host_that_is_down_rejects_no_row(server: EndpointServer) -> None:
    """After retryDeadlineSeconds the run fails, and says what may be done."""
    with pytest.raises(TransientError) as e:
        fate(server, dead_url(), retryDeadlineSeconds=0.5)
    text = str(e.value)
    assert "Connection refused" in text
    assert "imageUnreachable" in text
    assert "secret-of-the-url" not in text


@pytest.mark.slow
def test_a_dead_host_may_cost_only_its_own_rows(server: EndpointServer, host: ImageServer) -> None:
    """With imageUnreachable: reject; it is waited for once, not once for each of its rows."""
    dead = dead_url()
    rows = [{"pic": f"{dead}&{i}"} for i in range(200)] + [{"pic": host.url("/a.png")}] * 5
    settings = image_settings(
        server,
        allowPrivateAddresses=True,
        imageUnreachable="reject",
        retryDeadlineSeconds=0.5,
    )
    out = run(Embedder(settings, None, context()), rows)
    assert len(good(out)) == 5
    assert {r.reason for r in rejects(out)} == {"image-unreachable"}
    assert len(rejects(out)) == 200


@pytest.mark.slow
def test_an_image_that_fails_alone_is_rejected_alone(
    server: EndpointServer, host: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its host gives others meanwhile, the host is not away."""
    host.routes["/500"] = (500, {}, b"")
    host.routes |= {f"/{i}": png(i) for i in range(60)}
    monkeypatch.setattr(embed_image_load, "ALONE_TRIES", 2)
    rows = [{"pic": host.url("/500")}] + [{"pic": host.url(f"/{i}")} for i in range(60)]
    settings = image_settings(server, allowPrivateAddresses=True)
    out = run(Embedder(settings, None, context()), rows)
    assert len(good(out)) == 60
    assert [r.reason for r in rejects(out)] == ["image-unavailable"]


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_time")
def test_a_host_that_is_busy_loses_no_image(
    server: EndpointServer, host: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and 429 for some images, while others come, is not the fault of those images."""
    host.routes |= {f"/{i}": png(i) for i in range(40)}
    host.routes |= {f"/{i}": flaky(3, png(i), 503 if i % 2 else 429) for i in range(0, 40, 7)}
    monkeypatch.setattr(embed_image_load, "ALONE_TRIES", 2)
    rows = [{"pic": host.url(f"/{i}")} for i in range(40)]
    settings = image_settings(server, allowPrivateAddresses=True)
    assert len(good(run(Embedder(settings, None, context()), rows))) == 40


@pytest.mark.parametrize(
    ("allowed", "no_proxy", "seen"),
    [
        (True, "", ["http://images.test:PORT/a.png"]),
        (True, "images.test", ["/a.png"]),
        (True, "images.test:PORT", ["/a.png"]),
        (True, "images.test:1", ["http://images.test:PORT/a.png"]),
        (False, "", []),
    ],
    ids=["allowed", "no_proxy", "no_proxy with its port", "with another port", "not allowed"],
)
def test_a_proxy_is_used_only_where_addresses_need_no_check(
    server: EndpointServer,
    host: ImageServer,
    monkeypatch: pytest.MonkeyPatch,
    allowed: bool,
    no_proxy: str,
    seen: list[str],
) -> None:
    """And never for what NO_PROXY names."""
    url = host.url("/a.png", "images.test")
    host.routes[url] = png(7)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, host.url(""))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, no_proxy.replace("PORT", str(host.port)))
    Names(monkeypatch, {"images.test": [["127.0.0.1"]]})
    settings = image_settings(server, allowPrivateAddresses=allowed)
    engine = Embedder(settings, None, context())
    monkeypatch.setattr(engine._shared.endpoint, "embed", never_asked)
    result = engine._images.load(ImageSource("url", url)) if engine._images else None
    assert [path.replace(str(host.port), "PORT") for path in host.seen] == seen
    assert isinstance(result, Image) == allowed


def never_asked(inputs: list[Any]) -> None:
    """An endpoint behind no proxy of the test's own."""
    raise AssertionError("only the image is of interest")


@pytest.mark.usefixtures("virtual_time")
def test_a_host_that_does_not_exist_is_the_rows_fault(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up three times; a lookup that fails otherwise is a server that is away."""
    asked: list[str] = []

    def unknown(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    real = socket.getaddrinfo
    monkeypatch.setattr(
        embed_image_address.socket,
        "getaddrinfo",
        lambda name, *a, **k: unknown(name) if name == "no.test" else real(name, *a, **k),
    )
    url = "http://no.test/a.png"
    assert reason(server, url, allowPrivateAddresses=False) == "image-not-found"
    assert asked == ["no.test"] * embed_image_load.NAME_TRIES


def test_the_signature_of_a_url_is_never_shown(server: EndpointServer, host: ImageServer) -> None:
    """What stands behind the ? of a URL stays out of messages, and so does a password."""
    host.routes["/r"] = (302, {"Location": "/loop?Signature=hidden2"}, b"")
    host.routes["/loop"] = (302, {"Location": "/r?Signature=hidden3"}, b"")
    for path in ("/none?Signature=hidden1", "/r?Signature=hidden1"):
        out = fate(server, host.url(path).replace("127", "user:hidden4@127", 1))
        assert isinstance(out, Reject)
        assert "hidden" not in out.message


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/x", "http://x:99999/"])
def test_what_is_no_url_is_the_rows_fault(server: EndpointServer, url: str) -> None:
    """Nothing is asked, and nothing fails, whatever the job says of URLs."""
    assert reason(server, url) in ("bad-image", "image-not-found")
    assert reason(server, url, trustedEndpoints=["http://good/.*"]) == "image-untrusted"
    assert reason(server, url, imageUnreachable="reject") in ("bad-image", "image-not-found")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an image, and things around it that are none of its business."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(png(3))
    (folder / "large").write_bytes(png(4, 1100, 1100))
    (folder / "empty").write_bytes(b"")
    (tmp_path / "outside.png").write_bytes(png(5))
    os.symlink("../outside.png", folder / "link.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("deep/a", ""),
        ("./deep/../deep/a", ""),
        ("deep/none.png", "image-not-found"),
        ("deep", "image-not-found"),
        ("deep/a/b", "image-not-found"),
        ("x" * 5000, "image-not-found"),
        ("a\0b", "image-outside"),
        ("../outside.png", "image-outside"),
        ("link.png", "image-outside"),
        ("/etc/passwd", "image-outside"),
        ("file:///etc/passwd", "image-not-found"),
        ("empty", "empty-image"),
        ("large", "image-too-large"),
    ],
)
def test_a_path_stays_inside_its_data_source(
    server: EndpointServer, files: Path, path: str, why: str
) -> None:
    """A path is data: what is wrong with it costs its row."""
    settings = image_settings(server, imageDatasource="Pictures")
    engine = Embedder(settings, LocalConnection(path=str(files)), context())
    (out,) = run(engine, [{"pic": path}])
    if why:
        assert isinstance(out, Reject)
        assert out.reason == why
    else:
        assert not isinstance(out, Reject)
        assert (out["vector"] == vector_of(png(3), DIMENSION)).all()


@pytest.mark.slow
def test_a_large_file_is_scaled_where_that_is_wished(server: EndpointServer, files: Path) -> None:
    """imageMaxPixels lets a file of 3.6 MB pass."""
    settings = image_settings(server, imageDatasource="Pictures", imageMaxPixels=100_000)
    engine = Embedder(settings, LocalConnection(path=str(files)), context())
    assert len(good(run(engine, [{"pic": "large"}]))) == 1
    assert engine.counts.values["images-scaled"] == 1


class Store:
    """A store of files whose `open` does as it is told; also a data source."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def open_files(self) -> Store:
        """The store itself."""
        return self

    def relative(self, path: str) -> str:
        """The path as it is."""
        return path

    def open(self, path: str) -> Any:
        """The next answer: an error to raise, or the bytes of a file."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)


def of_store(server: EndpointServer, *answers: Any, **more: Any) -> Any:
    """What becomes of a row whose image lies in a store that does so."""
    settings = image_settings(server, imageDatasource="Store", **more)
    (out,) = run(Embedder(settings, Store(*answers), context()), [{"pic": "a.png"}])
    return out


@pytest.mark.slow
def test_a_store_that_falters_is_asked_again(server: EndpointServer) -> None:
    """An error of input and output may pass; the row gets its vector."""
    out = of_store(server, OSError(5, "Input/output error"), TransientError("503"), png(1))
    assert (out["vector"] == vector_of(png(1), DIMENSION)).all()


@pytest.mark.slow
def test_a_store_that_is_away_rejects_no_row(server: EndpointServer) -> None:
    """Also with imageUnreachable: reject, which is about hosts: a data source is the job's own."""
    for unreachable in ("fail", "reject"):
        with pytest.raises(TransientError, match="run the job again"):
            of_store(
                server,
                TransientError("the store is away"),
                retryDeadlineSeconds=0.3,
                imageUnreachable=unreachable,
            )


def test_a_store_that_refuses_everything_ends_the_run(server: EndpointServer) -> None:
    """A wrong key is not the fault of a row; a file that may not be read is."""
    with pytest.raises(FatalError, match="wrong key"):
        of_store(server, FatalError("wrong key"))
    assert of_store(server, PermissionError(13, "Permission denied")).reason == "image-refused"
