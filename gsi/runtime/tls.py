"""Mutual TLS: this process's certificate, and the authority that signs the other processes' certificates.

Both are files. A changed file is read again, so a certificate can be renewed without a restart.
"""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gsi.errors import MisconfiguredError

log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]  # for each file: its time of writing, its inode, its size


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM: this process's certificate chain and private key, and the authority that signs the other certificates."""

    chain: bytes
    key: bytes = field(repr=False)
    authority: bytes


class CertificateFiles:
    """The three files of one process. The constructor raises MisconfiguredError if they cannot be used."""

    def __init__(self, chain: Path, key: Path, authority: Path) -> None:
        self._chain, self._key, self._authority = chain, key, authority
        self._stamp = self._stamp_now()
        self._certificates = self._read()

    def current(self) -> Certificates:
        """Return the certificates in the files: the same object as before while no file has changed.

        While new files cannot be used, such as a chain whose key is not written yet, log it and return the old object.
        """
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return self._certificates
            self._stamp = stamp  # from before reading: the next call notices a change during it
            self._certificates = self._read()
            log.info("certificates read again", certificate=str(self._chain))
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
    """Return a client's context, which trusts one authority (None: the system's) and shows a certificate if given one.

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
            context.load_cert_chain(chain, key, password="")  # without it OpenSSL asks on the terminal
        except OSError as error:  # ssl.SSLError is one
            raise MisconfiguredError(f"certificate {chain} with key {key}: {error.strerror or error}") from None
    return context


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach host:port. A host name other than localhost counts as reachable."""
    host = address.rpartition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
