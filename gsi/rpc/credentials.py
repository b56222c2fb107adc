"""Mutual TLS over gRPC: both sides show a certificate of one authority, and new files are used for new connections."""

from typing import Any

import grpc

from gsi.runtime.tls import CertificateFiles, Certificates


def client_credentials(certificates: Certificates) -> grpc.ChannelCredentials:
    """Return what a channel shows and trusts for as long as it lives: new certificates need a new channel."""
    return grpc.ssl_channel_credentials(certificates.authority, certificates.key, certificates.chain)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Return what a server shows and trusts; the files are looked at for every new connection."""
    shown = files.current()

    def changed() -> Any:
        """Return the new configuration, or None where there is none: gRPC's convention."""
        nonlocal shown
        newest = files.current()
        if newest is shown:
            return None
        shown = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(_configuration(shown), changed, require_client_authentication=True)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair: Any = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.authority)
