"""The client that must be answered while others misbehave: in a thread of its own, on its own connections."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from gsi.v1 import candidates_pb2, draft_pb2, draft_pb2_grpc, prm_pb2_grpc, target_pb2_grpc

PAUSE_SECONDS = 0.05
DEADLINE_SECONDS = 10.0
STUBS: dict[str, Any] = {
    "draft": draft_pb2_grpc.DraftServiceStub,
    "target": target_pb2_grpc.TargetServiceStub,
    "prm": prm_pb2_grpc.PrmServiceStub,
}


class Canary:
    """Asks every service for its model, and the draft to render a prompt. Keeps the longest answer and the failures."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.longest_seconds = 0.0
        self.num_answers = 0
        self.failures: list[str] = []
        self._addresses = addresses
        self._stop = threading.Event()

    @contextmanager
    def singing(self) -> Iterator[None]:
        """Ask again and again until the block ends."""
        thread = threading.Thread(target=self._sing, name="canary")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _sing(self) -> None:
        channels = {role: grpc.insecure_channel(address) for role, address in self._addresses.items()}
        stubs = {role: STUBS[role](channel) for role, channel in channels.items()}
        prompt = draft_pb2.RenderPromptRequest(messages=[candidates_pb2.ChatMessage(role="user", content="1 + 1")])
        while not self._stop.wait(PAUSE_SECONDS):
            for stub in stubs.values():
                self._ask(stub.GetModelInfo, candidates_pb2.GetModelInfoRequest())
            self._ask(stubs["draft"].RenderPrompt, prompt)
        for channel in channels.values():
            channel.close()

    def _ask(self, method: Any, request: Any) -> None:
        began = time.perf_counter()
        try:
            method(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            self.failures.append(str(error))
        self.num_answers += 1
        self.longest_seconds = max(self.longest_seconds, time.perf_counter() - began)
