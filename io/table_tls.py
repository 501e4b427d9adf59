"""TLS of a connection to a database."""

from __future__ import annotations

import ssl

from vecferry.errors import JobError
from vecferry.io.table_settings import TableConnection


def tls_context(given: TableConnection) -> ssl.SSLContext:
    """For a connection that must be encrypted, and verified where the data source says so."""
    try:
        context = ssl.create_default_context(cafile=given.ca_cert)
    except OSError as e:
        raise JobError(f"caCert {given.ca_cert!r} can't be read: {e}") from e
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a private authority may be an old one
    if given.tls_mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
