"""Certificates for tests: an authority of one's own, and what it signs for loopback."""

import datetime
import ipaddress
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gsi.runtime.tls import CertificateFiles

DAY = datetime.timedelta(days=1)
LOOPBACK = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])

_numbers = itertools.count()


@dataclass(frozen=True)
class Paths:
    """The three files of one process."""

    chain: Path
    key: Path
    authority: Path

    def files(self) -> CertificateFiles:
        return CertificateFiles(self.chain, self.key, self.authority)

    def settings(self, prefix: str = "") -> dict[str, Any]:
        """Return them as settings, by the names of environment variables if a prefix is given."""
        named: Mapping[str, Path] = {"tls_cert": self.chain, "tls_key": self.key, "tls_ca": self.authority}
        return {f"{prefix}{name.upper() if prefix else name}": str(path) for name, path in named.items()}

    def replace_by(self, other: "Paths") -> None:
        """Overwrite chain and key, the one after the other, as a renewal does."""
        self.chain.write_bytes(other.chain.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


class Authority:
    """Signs certificates and writes them to a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {next(_numbers)}")])
        signed = _builder(self._name, self._name, self._key, ends_in=DAY)
        own = signed.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path = folder / f"authority-{next(_numbers)}.pem"
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, ends_in: datetime.timedelta = DAY, hosts: x509.SubjectAlternativeName = LOOPBACK
    ) -> Paths:
        """Return the files of a new certificate for these hosts; one that ends in the past has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._name, key, ends_in).add_extension(hosts, critical=False)
        stem = f"{name}-{next(_numbers)}"
        paths = Paths(self._folder / f"{stem}.pem", self._folder / f"{stem}.key", self.path)
        paths.chain.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        paths.key.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends_in: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now + ends_in)
    )
