"""Who may call a service: the names in the certificate that a caller shows, against a list of allowed names.

A name is a DNS name or a URI, such as a SPIFFE ID, among the subject alternative names. The common name gives no
rights: RFC 6125 retires it, and authorities check it less.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

log = structlog.get_logger()

NAMES = ("peer_dns", "peer_uri")  # gRPC's properties of the caller's certificate
COMMON_NAME = "x509_common_name"


class CallerRefusedError(Exception):
    """The operator is at fault: a certificate of our authority is used for calls that its role does not make."""


class Callers:
    """The certificates that may call; without ``allowed`` every certificate of the authority may.

    ``setting`` is the variable that holds the allowed names, for the error.
    """

    def __init__(self, allowed: Sequence[str], setting: str) -> None:
        self._allowed = frozenset(allowed)
        self._refusal = f"allowed: {', '.join(allowed)} ({setting})"
        self._refused: set[str] = set()  # each certificate is logged once

    def check(self, context: Any) -> None:
        """Raise CallerRefusedError, which says whose certificate came and what is allowed, if a call is not allowed."""
        if not self._allowed:
            return
        shown: Mapping[str, Iterable[bytes]] = context.auth_context()
        names = [name.decode(errors="replace") for key in NAMES for name in shown.get(key, ())]
        if not self._allowed.isdisjoint(names):
            return
        common = [name.decode(errors="replace") for name in shown.get(COMMON_NAME, ())]
        who = f"{', '.join(names) or 'no DNS name and no URI'} (common name {', '.join(common) or 'none'})"
        if who not in self._refused:
            self._refused.add(who)
            log.warning("a caller's certificate has another role", certificate=who, allowed=sorted(self._allowed))
        raise CallerRefusedError(f"the caller's certificate is for {who}; {self._refusal}")
