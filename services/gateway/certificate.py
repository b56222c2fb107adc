"""The certificate of HTTPS, read again when its files change: certificates are renewed while the gateway runs."""

import asyncio
import ssl
from pathlib import Path

import structlog

log = structlog.get_logger()

LOOK_SECONDS = 1.0  # between two looks at the files


async def follow_certificate(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    """Load a certificate again whenever its files change, for new connections. Runs until it is cancelled."""
    seen = _stamp(chain, key)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        stamp = _stamp(chain, key)
        if stamp == seen or not stamp:
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)  # half a pair would spoil the context
            context.load_cert_chain(chain, key)
        except OSError as error:  # one of the two files is not written yet, or the pair does not match: look again
            log.warning("the new certificate cannot be used yet", error=str(error))
            continue
        seen = stamp
        log.info("the certificate was renewed")


def _stamp(chain: Path, key: Path) -> tuple[int, ...]:
    """Return what changes with the files; empty if one of them is missing at the moment."""
    try:
        return tuple(path.stat().st_mtime_ns for path in (chain, key))
    except OSError:
        return ()
