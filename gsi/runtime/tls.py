"""Mutual TLS: the certificate of this process and the authority of the others, in files that may be replaced.

Files are read again when they have changed, so that a certificate is renewed without a restart.
"""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gsi.errors import MisconfiguredError

log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]  # of each file: when it was written, its inode, its size


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM: the chain that this process shows, its private key, and the authority that signs those of the others."""

    chain: bytes
    key: bytes = field(repr=False)
    authority: bytes


class CertificateFiles:
    """The three files of one process. Raises MisconfiguredError at the start if they cannot be used."""

    def __init__(self, chain: Path, key: Path, authority: Path) -> None:
        self._chain, self._key, self._authority = chain, key, authority
        self._stamp = self._stamp_now()
        self._certificates = self._read()

    def current(self) -> Certificates:
        """Return the certificates of now: the same object as before while no file has changed.

        New files that cannot be used, such as a chain whose key has not been written yet, are logged and passed over.
        """
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return self._certificates
            self._stamp = stamp  # taken before reading: what is written meanwhile is noticed the next time
            self._certificates = self._read()
            log.info("certificates read anew", certificate=str(self._chain))
        except MisconfiguredError as error:
            log.warning("new certificates cannot be used; going on with the old ones", reason=str(error))
        return self._certificates

    def _stamp_now(self) -> Stamp:
        try:
            stats = [path.stat() for path in (self._chain, self._key, self._authority)]
        except OSError as error:
            raise MisconfiguredError(f"certificate {error.filename}: {error.strerror}") from None
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def _read(self) -> Certificates:
        try:
            client_context(self._authority, self._chain, self._key)
            return Certificates(self._chain.read_bytes(), self._key.read_bytes(), self._authority.read_bytes())
        except OSError as error:
            raise MisconfiguredError(f"certificate {error.filename}: {error.strerror}") from None


def client_context(authority: Path | None, chain: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a client's context: it trusts one authority (None: those of the system) and shows its certificate, if any.

    Raises MisconfiguredError for a file that cannot be read or is not PEM, and for a key of another certificate.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise MisconfiguredError(f"certificate authority {authority}: {error.strerror or error}") from None
    if chain is None and key is not None:
        raise MisconfiguredError(f"key {key} is given without its certificate")
    if chain is not None:
        try:
            context.load_cert_chain(chain, key, password="")  # else OpenSSL asks for it on the terminal
        except OSError as error:  # ssl.SSLError too
            raise MisconfiguredError(f"certificate {chain} with key {key}: {error.strerror or error}") from None
    return context


def is_loopback(address: str) -> bool:
    """Return whether host:port can be reached from this machine only. A name other than localhost cannot be known."""
    host = address.rpartition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
