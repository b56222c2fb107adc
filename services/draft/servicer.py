"""``gsi.v1.DraftService`` over a language engine."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gsi.algorithm.candidates import Message
from gsi.engines.base import LanguageEngine
from gsi.engines.text_threads import TextThreads, count_characters
from gsi.rpc import convert, servicing
from gsi.rpc.server import Loadable
from gsi.v1 import candidates_pb2, draft_pb2, draft_pb2_grpc

SERVICE = "gsi.v1.DraftService"


class DraftServicer(draft_pb2_grpc.DraftServiceServicer):
    """Answers with the engine. The edge of the server translates the errors that are raised here."""

    def __init__(self, engine: Loadable[LanguageEngine]) -> None:
        self._engine = engine
        self._texts = TextThreads()

    async def GetModelInfo(self, request: candidates_pb2.GetModelInfoRequest, context: Any) -> candidates_pb2.ModelInfo:
        return convert.info_to_proto(self._engine.get().info)

    async def RenderPrompt(
        self, request: draft_pb2.RenderPromptRequest, context: Any
    ) -> draft_pb2.RenderPromptResponse:
        engine, messages = self._engine.get(), convert.messages_from_proto(request.messages)
        token_ids = await self._texts.run(count_characters(messages), engine.render, messages)
        text = await self._texts.run(count_characters(messages), engine.show, token_ids) if request.with_text else ""
        return draft_pb2.RenderPromptResponse(token_ids=token_ids, text=text)

    async def Propose(
        self, request: candidates_pb2.ProposeRequest, context: Any
    ) -> AsyncIterator[candidates_pb2.ProposeResponse]:
        async for response in servicing.propose(self._engine.get(), request):
            yield response

    async def Judge(self, request: candidates_pb2.JudgeRequest, context: Any) -> candidates_pb2.JudgeResponse:
        return await servicing.judge(self._engine.get(), request)


async def try_out(engine: LanguageEngine) -> None:
    """Render a prompt, as for each job. Raises InvalidRequestError if the model has no chat template that works."""
    await asyncio.to_thread(engine.render, (Message("user", "What is 1 + 1?"),))


def add_to_server(engine: Loadable[LanguageEngine], server: grpc.aio.Server) -> None:
    draft_pb2_grpc.add_DraftServiceServicer_to_server(DraftServicer(engine), server)
