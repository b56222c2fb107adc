"""``gsi.v1.TargetService`` over a language engine."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc

from gsi.engines.base import LanguageEngine
from gsi.rpc import convert, servicing
from gsi.rpc.server import Loadable
from gsi.v1 import candidates_pb2, target_pb2, target_pb2_grpc

SERVICE = "gsi.v1.TargetService"

Requests = AsyncIterator[target_pb2.TargetScoreRequest]


class TargetServicer(target_pb2_grpc.TargetServiceServicer):
    """Answers with the engine. The edge of the server translates the errors that are raised here."""

    def __init__(self, engine: Loadable[LanguageEngine]) -> None:
        self._engine = engine

    async def GetModelInfo(self, request: candidates_pb2.GetModelInfoRequest, context: Any) -> candidates_pb2.ModelInfo:
        return convert.info_to_proto(self._engine.get().info)

    async def Propose(
        self, request: candidates_pb2.ProposeRequest, context: Any
    ) -> AsyncIterator[candidates_pb2.ProposeResponse]:
        async for response in servicing.propose(self._engine.get(), request):
            yield response

    async def Judge(self, request: candidates_pb2.JudgeRequest, context: Any) -> candidates_pb2.JudgeResponse:
        return await servicing.judge(self._engine.get(), request)

    async def Score(self, request_iterator: Requests, context: Any) -> AsyncIterator[candidates_pb2.ScoreResponse]:
        engine = self._engine.get()
        header: target_pb2.TargetScoreHeader = await servicing.read_header(request_iterator)
        sampling = convert.sampling_from_proto(header.sampling)
        prefix = servicing.read_prefix(header.prefix_token_ids, engine.info.max_length)
        convert_batch = partial(convert.tokens_from_proto, max_tokens=engine.info.max_length)
        async for response in servicing.score(request_iterator, convert_batch, partial(engine.score, prefix, sampling)):
            yield response


def add_to_server(engine: Loadable[LanguageEngine], server: grpc.aio.Server) -> None:
    target_pb2_grpc.add_TargetServiceServicer_to_server(TargetServicer(engine), server)
