"""The ``/metrics`` endpoint as a scraper sees it."""

import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from gsi.runtime.metrics import serve_metrics

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3, "*/*"])
def test_a_series_keeps_its_name_whichever_format_is_asked_for(accept: str) -> None:
    """The colon of vLLM's series stays, in the only format that we serve."""
    registry = CollectorRegistry()
    Gauge("vllm:num_requests_running", "-", registry=registry).set(3)
    port = serve_metrics("127.0.0.1:0", registry)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "vllm:num_requests_running 3.0" in answer.read().decode().splitlines()
