"""Engine ``remote`` in the chart: a pod without a GPU that knows its server's address, key and way."""

from typing import Any

import pytest

from services.target.settings import TargetSettings
from tests.chart.network import Place, may_connect
from tests.chart.pods import pods
from tests.chart.rendering import objects_with
from tests.chart.test_network_policy import place, policies
from tests.chart.test_settings import environment

URL = "http://vllm.models.svc:8000"
SERVER = Place("models", {"app": "vllm"})


def remote(url: str = URL, **other: Any) -> dict[str, Any]:
    return {"target": {"engine": "remote", "remote": {"url": url, **other}, "gpu": {"count": 0}}}


def test_a_service_knows_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are settings of the process; the key comes from a Secret alone."""
    found = objects_with("cpu", remote(apiKeySecret={"name": "models", "key": "vllm"}))
    (target,) = (pod for pod in pods(found) if pod.component == "target")
    variables = environment(target.container())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = TargetSettings()
    assert (settings.engine, settings.remote_url, settings.remote_kind) == ("remote", URL, "auto")
    (key,) = (one for one in target.container()["env"] if one["name"] == "GSI_TARGET_REMOTE_API_KEY")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "models", "key": "vllm"}


@pytest.mark.parametrize(
    ("url", "port"), [(URL, 8000), ("http://vllm.models.svc", 80), ("https://models.example", 443)]
)
def test_a_service_reaches_its_server(url: str, port: int) -> None:
    """The policy lets out the port of the address, and of no other role."""
    found = objects_with("cpu", remote(url))
    sources = {pod.component: place(pod) for pod in pods(found)}
    assert may_connect(policies(found), sources["target"], SERVER, port)
    assert not may_connect(policies(found), sources["draft"], SERVER, port)
