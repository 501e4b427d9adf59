"""A certificate authority of the tests, and certificates of servers on this machine."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HOST = "127.0.0.1"


def make_certificates(folder: Path) -> None:
    """Writes ca.pem, server.pem and server-key.pem for the address 127.0.0.1 into `folder`.

    `other-ca.pem` is an authority that signed neither of them.
    """
    ca_key, server_key, other_key = _key(), _key(), _key()
    ca = _certificate("vecferry test authority", ca_key.public_key(), ca_key, authority=True)
    other = _certificate("another authority", other_key.public_key(), other_key, authority=True)
    server = _certificate(HOST, server_key.public_key(), ca_key, issuer=ca.subject)
    for name, one in (("ca", ca), ("server", server), ("other-ca", other)):
        (folder / f"{name}.pem").write_bytes(one.public_bytes(serialization.Encoding.PEM))
    key = folder / "server-key.pem"
    key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    key.chmod(0o600)


def _key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _certificate(
    name: str, key: Any, signer: Any, *, issuer: Any = None, authority: bool = False
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
