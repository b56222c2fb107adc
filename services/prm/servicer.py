"""``gsi.v1.PrmService`` over a reward engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import Any

import grpc

from gsi.algorithm.candidates import Message
from gsi.engines.base import RewardEngine
from gsi.rpc import convert, servicing
from gsi.rpc.server import Loadable
from gsi.v1 import candidates_pb2, prm_pb2, prm_pb2_grpc

SERVICE = "gsi.v1.PrmService"

Requests = AsyncIterator[prm_pb2.PrmScoreRequest]


class PrmServicer(prm_pb2_grpc.PrmServiceServicer):
    """Answers with the engine. The edge of the server translates the errors that are raised here."""

    def __init__(self, engine: Loadable[RewardEngine]) -> None:
        self._engine = engine

    async def GetModelInfo(self, request: candidates_pb2.GetModelInfoRequest, context: Any) -> candidates_pb2.ModelInfo:
        return convert.info_to_proto(self._engine.get().info)

    async def Score(self, request_iterator: Requests, context: Any) -> AsyncIterator[candidates_pb2.ScoreResponse]:
        engine = self._engine.get()
        header: prm_pb2.PrmScoreHeader = await servicing.read_header(request_iterator)
        messages, steps = convert.conversation_from_proto(header, max_steps=engine.info.max_length)
        score_all = partial(engine.score, messages, steps)
        async for response in servicing.score(request_iterator, convert.texts_from_proto, score_all):
            yield response


async def try_out(engine: RewardEngine) -> None:
    """Rate a step, as for each job. Raises InvalidRequestError or InternalError if the model rates none."""

    async def step() -> AsyncGenerator[Sequence[convert.ReceivedText], None]:
        yield [convert.ReceivedText(0, "1 + 1 = 2.\n\n")]

    async for _ in engine.score((Message("user", "What is 1 + 1?"),), (), step()):
        pass


def add_to_server(engine: Loadable[RewardEngine], server: grpc.aio.Server) -> None:
    prm_pb2_grpc.add_PrmServiceServicer_to_server(PrmServicer(engine), server)
