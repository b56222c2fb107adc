"""A request's jobs from their submission on, and what is done at its end.

Jobs that nobody waits for are cancelled, and tokens are counted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gsi.jobs.connection import RedisError
from services.gateway.answers import Answers, Choice, submit
from services.gateway.queues import Queue
from services.gateway.translation import Order

log = structlog.get_logger()


class Settling(Protocol):
    """Counts the tokens of a request."""

    @property
    def can_be_settled_later(self) -> bool: ...
    async def settle(self, answers: Answers) -> None: ...
    def leave(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is done at the end of each request.

    ``may_cancel``: whether a request that breaks off was left by its client, and not by a gateway that stops.
    ``go_on`` runs work that no request waits for.
    """

    entry: Settling
    may_cancel: Callable[[], bool]
    go_on: Callable[[Coroutine[Any, Any, None]], None]

    async def leave(self, answers: Answers) -> None:
        """Cancel the jobs that nobody waits for, and count the tokens, those of kept jobs when they have finished."""
        if answers.unfinished and answers.order.is_kept:
            self.go_on(self._settle_later(answers))
            return
        try:
            if answers.unfinished and self.may_cancel():
                await answers.cancel_unfinished()
            if not (answers.unfinished and self.entry.can_be_settled_later):
                await self.entry.settle(answers)
        except RedisError as error:
            log.warning("the end of a request is not noted", reason=str(error))
        finally:
            self.entry.leave()

    async def _settle_later(self, answers: Answers) -> None:
        try:
            await answers.wait_without_client()
            await self.entry.settle(answers)
        except RedisError as error:
            log.warning("the tokens of kept jobs are not counted yet", reason=str(error))
        finally:
            self.entry.leave()


@asynccontextmanager
async def answering(order: Order, queue: Queue, leaving: Leaving) -> AsyncIterator[Answers]:
    """Submit the jobs of a request, and follow them while the block runs. Raises ApiError if they are not taken."""
    with ExitStack() as stack:
        choices = [
            Choice(index, job.job_id, stack.enter_context(queue.feed.watch(job.job_id)))
            for index, job in enumerate(order.jobs)
        ]
        answers = Answers(order, queue, choices)
        answers.note_submission()
        try:
            await submit(answers, queue, stack)
        except BaseException:
            leaving.entry.leave()  # some of the jobs may have been pushed
            raise
        try:
            yield answers
        finally:
            await asyncio.shield(leaving.leave(answers))
