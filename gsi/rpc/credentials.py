"""Mutual TLS over gRPC: client and server show certificates of one authority. New files serve new connections."""

from typing import Any

import grpc

from gsi.runtime.tls import CertificateFiles, Certificates


def client_credentials(certificates: Certificates) -> grpc.ChannelCredentials:
    """Return the credentials of a channel. They never change: new certificates need a new channel."""
    return grpc.ssl_channel_credentials(certificates.authority, certificates.key, certificates.chain)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Return the credentials of a server, which reads the files again for each new connection."""
    shown = files.current()

    def fetch_configuration() -> Any:
        """Return the new configuration; None, by gRPC's convention, if the files have not changed."""
        nonlocal shown
        newest = files.current()
        if newest is shown:
            return None
        shown = newest
        return _make_configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _make_configuration(shown), fetch_configuration, require_client_authentication=True
    )


def _make_configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair: Any = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.authority)
