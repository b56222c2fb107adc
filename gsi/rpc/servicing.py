"""What the model services share behind their contracts: checking a request, driving the engine, reading a stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from gsi.algorithm.ports import ScoreBatches
from gsi.engines.base import LanguageEngine, check_prefix_length
from gsi.errors import InvalidRequestError
from gsi.limits import MAX_REQUEST_CANDIDATES
from gsi.rpc import convert
from gsi.rpc.grouping import group, read_ahead
from gsi.v1 import candidates_pb2

C = TypeVar("C")


async def propose(
    engine: LanguageEngine, request: candidates_pb2.ProposeRequest
) -> AsyncIterator[candidates_pb2.ProposeResponse]:
    """Answer ``Propose``: a response for the candidates that finished within milliseconds."""
    if not 1 <= request.n <= MAX_REQUEST_CANDIDATES:
        raise InvalidRequestError(f"n is {request.n}; allowed: 1 to {MAX_REQUEST_CANDIDATES}")
    sampling = convert.sampling_from_proto(request.sampling)
    prefix = read_prefix(request.prefix_token_ids, engine.info.max_length)
    async with aclosing(group(engine.propose(prefix, request.n, sampling, request.seed))) as groups:
        async for candidates in groups:
            yield candidates_pb2.ProposeResponse(candidates=map(convert.candidate_to_proto, candidates))


async def judge(engine: LanguageEngine, request: candidates_pb2.JudgeRequest) -> candidates_pb2.JudgeResponse:
    """Answer ``Judge``."""
    question = convert.question_from_proto(request)
    prefix = read_prefix(request.prefix_token_ids, engine.info.max_length)
    return convert.probabilities_to_proto(await engine.judge(prefix, question))


def read_prefix(token_ids: Sequence[int], max_length: int) -> tuple[int, ...]:
    """Return a prefix. Raises InvalidRequestError before millions of numbers become objects of Python."""
    check_prefix_length(len(token_ids), max_length)
    return tuple(token_ids)


async def score(
    requests: AsyncIterator[Any],
    convert_batch: Callable[[Any], Sequence[C]],
    score_all: Callable[[AsyncGenerator[Sequence[C], None]], ScoreBatches],
) -> AsyncIterator[candidates_pb2.ScoreResponse]:
    """Answer ``Score`` behind its header: a response for the candidates that were scored within milliseconds.

    ``score_all`` gets the candidates, those together that came while it was busy.
    """
    async with (
        read_ahead(read_candidates(requests, convert_batch)) as candidates,
        aclosing(group(score_all(candidates))) as groups,
    ):
        async for scored in groups:
            yield convert.scores_to_proto(scored)


async def read_header(requests: AsyncIterator[Any]) -> Any:
    """Return the header of a ``Score`` stream, its first message. Raises InvalidRequestError if there is none."""
    first = await anext(aiter(requests), None)
    if first is None or not first.HasField("header"):
        raise InvalidRequestError("the first message of a Score stream must be its header")
    return first.header


async def read_candidates(
    requests: AsyncIterator[Any], convert_batch: Callable[[Any], Sequence[C]]
) -> AsyncGenerator[Sequence[C], None]:
    """Yield the candidates of each message behind the header.

    Raises InvalidRequestError for a second header, and for more candidates than a proposal may have.
    """
    num_candidates = 0
    async for request in requests:
        if request.HasField("header"):
            raise InvalidRequestError("a Score stream has one header, its first message")
        batch = convert_batch(request.candidates)
        num_candidates += len(batch)
        if num_candidates > MAX_REQUEST_CANDIDATES:
            raise InvalidRequestError(
                f"a Score stream has {num_candidates} candidates; allowed: 1 to {MAX_REQUEST_CANDIDATES}"
            )
        yield batch
