"""A node of a vLLM engine that does not serve: its workers do what node 0's scheduler tells them.

It is what ``vllm serve --headless`` runs there (``run_headless`` in vLLM's ``entrypoints/cli/serve.py``).
Ranks, addresses and what each node must be told: ``docs/decisions/0019-one-engine-over-several-nodes.md``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.core import POLL_SECONDS, engine_config, port_of_nodes
from gsi.engines.on_vllm.nodes import NodeZero


class VllmFollower:
    """The workers of one node, loaded and at work."""

    def __init__(self, executor: MultiprocExecutor, node_zero: NodeZero) -> None:
        self._executor = executor
        self._node_zero = node_zero

    @classmethod
    async def start(cls, settings: EngineSettings, fixed: Mapping[str, Any]) -> "VllmFollower":
        """Wait for node 0, then load this node's share of the model together with all others.

        ``settings`` are those of node 0 but for the rank, ``fixed`` as in ``VllmCore.start``.
        """
        config = await asyncio.to_thread(engine_config, settings, fixed)
        nodes = config.parallel_config
        node_zero = await NodeZero.join(nodes.master_addr, port_of_nodes(config), nodes.node_rank)
        try:
            return cls(await asyncio.to_thread(MultiprocExecutor, config), node_zero)
        except BaseException:
            node_zero.close()
            raise

    async def died(self) -> str:
        """Return once this node cannot work any more, with the reason."""
        while not (self._node_zero.is_gone or self._executor.is_failed):
            await asyncio.sleep(POLL_SECONDS)
        return "node 0 has gone" if self._node_zero.is_gone else "a worker of vLLM has ended"

    def close(self) -> None:
        self._executor.shutdown()
        self._node_zero.close()
