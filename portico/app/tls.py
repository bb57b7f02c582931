"""TLS: from the settings' files to the context that the server listens with.

Below: Python's `ssl`, and `cryptography` for the dates in a certificate. `server.py` and `portico check` call it, so that a file
that cannot be used is a sentence before anything starts. It decides nothing about what a caller may do.
"""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from portico.app.settings import GatewayConfig

VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
"""`client_cert_mode` in OpenSSL's words."""
ALPN = ["http/1.1"]
"""What is spoken inside (RFC 7301)."""


def tls_context(settings: GatewayConfig) -> ssl.SSLContext | None:
    """The context to listen with: TLS 1.2 or later. None where there is no certificate.

    Raises:
        ConfigurationError: a file is not there or is no PEM file, the key has a password or belongs to another certificate, a
            certificate is not valid today.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    _load_pair(context, settings.tls_cert, settings.tls_key)
    context.verify_mode = VERIFY[settings.client_cert_mode]
    if settings.tls_ca_cert is not None:
        _load_authorities(context, settings.tls_ca_cert)
    return context


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    files = f"The TLS files {cert} and {key} cannot be used"
    for file in (cert, key):
        _check_readable(file, files)

    def refuse_password() -> str:
        raise ConfigurationError(
            f"{files}: the key has a password, and nobody is there to type it. "
            f"Take it off (`openssl pkey -in {key} -out plain.pem`), and guard the file by its permissions."
        )

    try:
        context.load_cert_chain(cert, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"{files}: the key belongs to another certificate.") from None
        raise ConfigurationError(f"{files}: {_no_pem(cert, key)}.") from None
    _check_dates(cert, files)


def _load_authorities(context: ssl.SSLContext, file: str) -> None:
    what = f"tls_ca_cert {file} cannot be used"
    _check_readable(file, what)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise ConfigurationError(f"{what}: it holds no certificate in PEM form.") from None
    _check_dates(file, what)


def _check_readable(file: str, what: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{what}: {file}: {error.strerror}.") from None


def _no_pem(cert: str, key: str) -> str:
    """Which of two files is not what it should be."""
    for file, mark, what in ((cert, b"-----BEGIN CERTIFICATE-----", "certificate"), (key, b"PRIVATE KEY-----", "private key")):
        if mark not in Path(file).read_bytes():
            return f"{file} holds no {what} in PEM form"
    return "one of them is damaged"


def _check_dates(file: str, what: str) -> None:
    """Raises `ConfigurationError` where the first certificate of a file is not valid now."""
    from cryptography import x509  # noqa: PLC0415  # 0.1 s, only where there is TLS

    try:
        certificate = x509.load_pem_x509_certificates(Path(file).read_bytes())[0]
    except ValueError:
        raise ConfigurationError(f"{what}: {file} holds no certificate in PEM form.") from None
    now = dt.datetime.now(dt.UTC)
    if now > certificate.not_valid_after_utc:
        raise ConfigurationError(f"{what}: the certificate has expired, on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.")
    if now < certificate.not_valid_before_utc:
        raise ConfigurationError(
            f"{what}: the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
        )
