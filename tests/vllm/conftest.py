"""Tests of the vLLM engines. ``make test-vllm`` runs them, in an environment that has vLLM.

``make test`` has no vLLM and does not collect them; ``.ci/run`` runs both.
"""

import importlib
import importlib.util
import warnings

from gsi.engines.on_vllm.environment import prepare_import

collect_ignore_glob = ["*"]

if importlib.util.find_spec("vllm"):
    collect_ignore_glob = []
    prepare_import()
    with warnings.catch_warnings():  # vLLM's and torch's own deprecations are not ours to raise
        warnings.simplefilter("ignore")
        importlib.import_module("gsi.engines.on_vllm.reward")
