"""The metrics of a model service: its calls in flight, whether it is ready, and its model."""

from contextlib import aclosing
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from gsi.errors import RetryableError
from gsi.rpc.clients import DraftClient
from gsi.rpc.metrics import MODEL_INFO, READY, observe_model
from tests.conftest import wait_until
from tests.services.test_model_services import SAMPLING, EndlessEngine, serving_engine


def sample(name: str, service: str = "DraftService") -> float | None:
    return REGISTRY.get_sample_value(name, {"service": service})


async def shows(name: str, value: float, service: str = "DraftService") -> bool:
    return sample(name, service) == value


async def test_a_service_shows_its_calls_its_limit_and_whether_it_takes_more() -> None:
    """It is ready from loading to draining; a call counts from its first message to its last."""
    engine = EndlessEngine()
    READY.labels("DraftService").set(0)  # as in a process that has just begun
    async with serving_engine(engine, max_concurrent_rpcs=3, grace_seconds=0.5) as server:
        assert sample("gsi_ready") == 0
        await wait_until(lambda: shows("gsi_ready", 1), "the service is ready")
        assert (sample("gsi_rpc_limit"), sample("gsi_rpcs_in_flight")) == (3, 0)
        client = DraftClient(server.address, 60.0)
        async with aclosing(client.propose((1,), 1, SAMPLING, 0)) as one:
            await anext(one)
            async with aclosing(client.propose((1,), 1, SAMPLING, 0)) as other:
                await anext(other)
                assert sample("gsi_rpcs_in_flight") == 2
            await wait_until(lambda: shows("gsi_rpcs_in_flight", 1), "the other call has ended")
            server.stop.set()
            await wait_until(lambda: shows("gsi_ready", 0), "the service drains")
            assert sample("gsi_rpcs_in_flight") == 1
            with pytest.raises(RetryableError):
                await anext(one)
        await wait_until(lambda: shows("gsi_rpcs_in_flight", 0), "no call is left")
        await client.close()


async def test_a_service_names_the_model_that_it_has_loaded() -> None:
    """The labels have the words of GetModelInfo, for one model at a time."""
    info = EndlessEngine().info
    for model in ("first", "second"):
        observe_model("gsi.v1.PrmService", replace(info, model=model, revision="r1", engine="vllm"))
    (family,) = MODEL_INFO.gauge.collect()
    version = info.engine_version
    expected = {"role": "prm", "model": "second", "revision": "r1", "engine": "vllm", "engine_version": version}
    assert [sample.labels for sample in family.samples] == [expected]
