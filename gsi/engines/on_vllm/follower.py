"""A node of a vLLM engine that does not serve: its workers take their orders from the scheduler of node 0.

``vllm serve --headless`` runs the same on such a node (``run_headless`` in vLLM's ``entrypoints/cli/serve.py``).
Ranks, addresses, and the settings of each node: ``docs/decisions/0019-one-engine-over-several-nodes.md``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.core import POLL_SECONDS, make_engine_config, port_of_nodes
from gsi.engines.on_vllm.nodes import NodeZero


class VllmFollower:
    """The workers of one node, which have loaded their share of the model."""

    def __init__(self, executor: MultiprocExecutor, node_zero: NodeZero) -> None:
        self._executor = executor
        self._node_zero = node_zero

    @classmethod
    async def start(cls, settings: EngineSettings, fixed: Mapping[str, Any]) -> "VllmFollower":
        """Wait for node 0, then load this node's share of the model while the other nodes load theirs.

        ``settings`` are the settings of node 0 but for the rank; ``fixed`` as in ``VllmCore.start``.
        """
        config = await asyncio.to_thread(make_engine_config, settings, fixed)
        nodes = config.parallel_config
        node_zero = await NodeZero.join(nodes.master_addr, port_of_nodes(config), nodes.node_rank)
        try:
            return cls(await asyncio.to_thread(MultiprocExecutor, config), node_zero)
        except BaseException:
            node_zero.close()
            raise

    async def wait_until_dead(self) -> str:
        """Return the reason once node 0 has gone or a worker of this node has ended."""
        while not (self._node_zero.is_gone or self._executor.is_failed):
            await asyncio.sleep(POLL_SECONDS)
        return "node 0 has gone" if self._node_zero.is_gone else "a worker of vLLM has ended"

    def close(self) -> None:
        self._executor.shutdown()
        self._node_zero.close()
