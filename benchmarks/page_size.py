"""How much a browser transfers to show the gateway's page for the first time, over plain HTTP.

It follows what the page's files say: what ``index.html`` names, what modules import, and the view of the first route.
The requests of ``/gsi/v1`` are no part of the page. A test compares the figure with what a browser transfers.
"""

import gzip
import http.client
import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

FIRST_VIEW = ("page/playground.js", "page/playground.css", "page/methods.json")  # which no other file imports
_NAMED = re.compile(r'<(?:link|script)[^>]*\s(?:href|src)="([^"]+)"')
_IMPORTED = re.compile(r'^import (?:[^"]* from )?"([^"]+)";', re.MULTILINE)


def page_kilobytes(url: str) -> float:
    """Return the thousands of bytes, headers included, of the first load of the page at ``url``.

    Raises OSError if the gateway does not answer, ValueError if it has no such file.
    """
    waiting, seen, total = [url, *(urljoin(url, name) for name in FIRST_VIEW)], set[str](), 0
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        size, text = _fetch(address)
        total += size
        waiting += _needed_by(address, text)
    return total / 1000


def _needed_by(address: str, text: str) -> Iterator[str]:
    """Yield the addresses of what is loaded with a file."""
    if address.endswith((".css", ".json", ".svg")):
        return
    for name in (_IMPORTED if address.endswith(".js") else _NAMED).findall(text):
        yield urljoin(address, name)


def _fetch(address: str) -> tuple[int, str]:
    """Return the bytes of an answer, headers included, and its text."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    try:
        connection.request("GET", place.path or "/", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"{address}: {answer.status} {answer.reason}")
    headers = sum(len(name) + len(value) + len(": \r\n") for name, value in answer.getheaders())
    content = gzip.decompress(body) if answer.getheader("content-encoding") == "gzip" else body
    return len(body) + headers, content.decode()
