"""vLLM's own parser accepts the engine arguments of the chart's profiles."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.core import parse_engine_args
from gsi.errors import MisconfiguredError

CHART = Path(__file__).parents[2] / "helm"
PROFILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CHART.glob("values-*.yaml"))}
ON_VLLM: dict[str, dict[str, Any]] = {
    f"{profile} {role}": values[role]
    for profile, values in PROFILES.items()
    for role in ("draft", "target", "prm")
    if values[role]["engine"] == "vllm"
}


def parse(role: dict[str, Any], *more: str) -> Any:
    name = role["model"]["uri"].removeprefix("hf://")
    words = shlex.join([*role["engineArgs"], *more])
    return parse_engine_args(EngineSettings(name, dtype=role["dtype"], engine_args=words), {})


@pytest.mark.parametrize("name", ON_VLLM)
def test_vllm_takes_the_arguments_of_a_profile(name: str) -> None:
    """vLLM knows each argument, and the model is spread over the GPUs that the pod asks for."""
    role = ON_VLLM[name]
    args = parse(role)
    assert args.tensor_parallel_size * args.pipeline_parallel_size == role["gpu"]["count"]
    assert args.max_model_len == 4096


def test_several_nodes_hold_as_many_parts_as_one() -> None:
    """By the profile of the large target, two nodes have half of the GPUs each."""
    args = parse(PROFILES["values-72b"]["target"], "--nnodes", "2", "--node-rank", "1", "--master-addr", "first")
    assert (args.nnodes, args.node_rank, args.tensor_parallel_size) == (2, 1, 4)


def test_an_argument_that_vllm_does_not_know_is_refused() -> None:
    """The test above can fail."""
    with pytest.raises(MisconfiguredError, match="--no-such-argument"):
        parse(ON_VLLM["values-72b target"], "--no-such-argument")
