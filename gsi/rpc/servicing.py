"""What the model services share behind their contracts: checking a request and driving the engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

from gsi.algorithm.ports import Proposer, ScoreBatches
from gsi.errors import InvalidRequestError
from gsi.rpc import convert
from gsi.v1 import candidates_pb2

MAX_CANDIDATES = 1024  # of one proposal: each costs a row of the engine's batch

R = TypeVar("R")


async def propose(
    engine: Proposer, request: candidates_pb2.ProposeRequest
) -> AsyncIterator[candidates_pb2.ProposeResponse]:
    """Answer ``Propose``: one response for the candidates that finished together."""
    if not 1 <= request.n <= MAX_CANDIDATES:
        raise InvalidRequestError(f"n is {request.n}; allowed: 1 to {MAX_CANDIDATES}")
    sampling = convert.sampling_from_proto(request.sampling)
    proposals = engine.propose(tuple(request.prefix_token_ids), request.n, sampling, request.seed)
    async with aclosing(proposals):
        async for batch in proposals:
            yield candidates_pb2.ProposeResponse(candidates=map(convert.candidate_to_proto, batch))


async def answer_scores(scores: ScoreBatches) -> AsyncIterator[candidates_pb2.ScoreResponse]:
    """Answer ``Score``: one response for the candidates that were scored together."""
    async with aclosing(scores):
        async for batch in scores:
            yield convert.scores_to_proto(batch)


async def first(requests: AsyncIterator[R], is_header: Callable[[R], bool]) -> R:
    """Return the first message of a stream. Raises InvalidRequestError if it is not the header."""
    async for request in requests:
        if is_header(request):
            return request
        break
    raise InvalidRequestError("the first message of a Score stream must be its header")


async def batches(requests: AsyncIterator[R], is_header: Callable[[R], bool]) -> AsyncGenerator[R, None]:
    """Yield the messages after the header. Raises InvalidRequestError for a second header."""
    async for request in requests:
        if is_header(request):
            raise InvalidRequestError("a Score stream has one header, its first message")
        yield request
