"""A connector for vLLM that claims to have the keys and values of every scored prompt, and brings nothing."""

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorBase_V1
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request

from gsi.engines.on_vllm.inside.scheduler import count_suffix_tokens


class FakeConnector(KVConnectorBase_V1):
    """What it "loads" is whatever was in the blocks: a row that needs a token read there is garbage."""

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int, bool]:
        """Return all whole blocks of a prompt whose suffix is to be scored, the suffix included."""
        block = self._vllm_config.cache_config.block_size
        has_all = count_suffix_tokens(request) is not None
        matched = (request.num_prompt_tokens - 1) // block * block
        return (max(matched - num_computed_tokens, 0), False) if has_all else (0, False)

    def update_state_after_alloc(self, request: Request, blocks: Any, num_external_tokens: int) -> None:
        pass

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return KVConnectorMetadata()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        pass

    def wait_for_layer_load(self, layer_name: str) -> None:
        pass

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        pass

    def wait_for_save(self) -> None:
        pass
