"""Tests of the vLLM engines. ``make test-vllm`` runs them, in an environment that has vLLM.

``make test`` has no vLLM and does not collect them; ``.ci/run`` runs both.
"""

import importlib
import importlib.util
import os
import warnings
from dataclasses import replace
from typing import Any

from gsi.engines.on_vllm.environment import prepare_import

GPU_SHARE = "GSI_TEST_GPU_SHARE"  # of a GPU's memory, for each engine: `make gpu` runs several on one GPU

collect_ignore_glob = ["*"]

if importlib.util.find_spec("vllm"):
    collect_ignore_glob = []
    prepare_import()
    with warnings.catch_warnings():  # vLLM's and torch's own deprecations are not ours to raise
        warnings.simplefilter("ignore")
        importlib.import_module("gsi.engines.on_vllm.reward")
        importlib.import_module("tests.vllm.engine_forks").fork_engines(importlib.import_module("vllm.v1.engine.utils"))


def pytest_configure() -> None:
    """Give each engine a share of the GPU, if there is one and the variable says so."""
    share = os.environ.get(GPU_SHARE)
    if not share or not importlib.import_module("torch").cuda.is_available():
        return
    core: Any = importlib.import_module("gsi.engines.on_vllm.core")
    parse = core.parse_engine_args

    def parse_on_a_share(settings: Any, fixed: Any) -> Any:
        words = f"--gpu-memory-utilization {share} {settings.engine_args}"
        return parse(replace(settings, engine_args=words), fixed)

    core.parse_engine_args = parse_on_a_share
