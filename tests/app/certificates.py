"""Certificates for the tests: an authority, and what it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

HOUR = dt.timedelta(hours=1)
HERE = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    cert: str
    key: str

    def trusting(self, client: Pair | None = None) -> ssl.SSLContext:
        """A client's context that trusts this certificate, and shows another where it is asked."""
        context = ssl.create_default_context(cafile=self.cert)
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context


class Authority:
    """Signs certificates, and keeps the files in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        certificate = _builder(self._name, self._name, self._key, -HOUR, HOUR)
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.cert = str(_write(folder / f"{name}.pem", certificate.sign(self._key, hashes.SHA256()).public_bytes(PEM)))

    def trusting(self, client: Pair | None = None) -> ssl.SSLContext:
        """A client's context that trusts what this authority has signed."""
        return Pair(self.cert, "").trusting(client)

    def signed(
        self,
        common_name: str | None,
        *names: x509.GeneralName,
        begins: dt.timedelta = -HOUR,
        ends: dt.timedelta = HOUR,
        password: bytes | None = None,
        file: str = "signed",
    ) -> Pair:
        """The files of a new certificate. `begins` and `ends` are from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key, begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=common_name is None)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(PEM)
        secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        printed = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, secret)
        return Pair(
            str(_write(self._folder / f"{file}-cert.pem", certificate)), str(_write(self._folder / f"{file}-key.pem", printed))
        )


def _name(common_name: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [])


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: dt.timedelta, ends: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now + begins).not_valid_after(now + ends)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
