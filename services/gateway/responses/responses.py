"""``/v1/responses``: an answer that can be asked for again, because it is a job. In the background, too."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gsi.errors import InvalidRequestError
from gsi.jobs.documents import Documents
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from services.gateway.answers import Answers, following
from services.gateway.errors import ApiError, refuse
from services.gateway.gateway import NO_ANSWER, Gateway, explain, until_client_leaves
from services.gateway.guard import Caller
from services.gateway.presets import Preset
from services.gateway.requests import ResponseRequest, read_input, read_instructions
from services.gateway.responses.conversations import Conversations, Messages, check_size, not_found
from services.gateway.responses.documents import Kept, describe, events_of, failure_event, keep, to_event
from services.gateway.translation import Order

UNFINISHED_SECONDS = 30 * 86_400.0  # for which a response without an answer is remembered
CANCEL_SECONDS = 3.0  # in which a running job stops, as a rule
CANCELLED = "cancelled by POST /v1/responses/{id}/cancel"
DELETED = "deleted by DELETE /v1/responses/{id}"


class Responses:
    """Creates, retrieves, cancels and deletes responses. All but the first know only the caller's own tenant's."""

    def __init__(self, gateway: Gateway, store: Documents, conversations: Conversations) -> None:
        self._gateway = gateway
        self._store = store
        self._conversations = conversations

    async def create(self, request: Request, caller: Caller, body: ResponseRequest) -> Response:
        """Answer, or take a question for the background. Raises ApiError for a request that is refused."""
        if body.background and body.store is False:
            raise refuse("store", "false is not allowed in the background: nobody could retrieve the answer")
        said = [*await self._said_before(caller, body), *read_input(body)]
        question = {"messages": [*read_instructions(body), *said]}
        order, headers = await self._gateway.prepare(request, caller, body, [question])
        order = replace(order, is_kept=order.is_kept or bool(body.background))
        kept = keep(order, body, int(time.time()))
        if kept.store:
            await self._save(caller, kept)
            await self._conversations.save(caller.tenant, kept.id, said, self._lifetime_seconds)
        context = self._gateway.answering(order, caller)
        if order.is_stream:
            stack = AsyncExitStack()
            answers = await stack.enter_async_context(context)
            kept = await self._note_job(caller, kept, answers.choices[0].job_id)
            return self._gateway.stream(stack, _written(kept, answers, 0, stack), headers)
        async with context as answers:
            kept = await self._note_job(caller, kept, answers.choices[0].job_id)
            if body.background:
                return JSONResponse(describe(kept, None), headers=headers)
            with suppress(ApiError):  # the response says how its job ended
                await until_client_leaves(request, answers.wait())
        return JSONResponse(describe(kept, answers.choices[0].record), headers=headers)

    async def retrieve(self, caller: Caller, response_id: str, *, is_stream: bool, starting_after: int) -> Response:
        """Return a response as it is now, or its events from a number on. Raises ApiError 404."""
        kept = await self._find(caller, response_id)
        record = await self._read(kept)
        if not is_stream:
            return JSONResponse(describe(kept, record))
        stack = AsyncExitStack()
        queue = self._gateway.queues[kept.queue]
        answers = await stack.enter_async_context(following(_order_of(kept), queue, kept.job_id))
        return self._gateway.stream(stack, _written(kept, answers, starting_after + 1, stack), {})

    async def cancel(self, caller: Caller, response_id: str) -> Response:
        """Cancel a response's job, and return the response as it is then. Raises ApiError 404."""
        kept = await self._find(caller, response_id)
        client = self._gateway.queues[kept.queue].client
        with suppress(InvalidRequestError):
            await client.cancel(kept.job_id, CANCELLED)
        with suppress(InvalidRequestError, TimeoutError):
            await client.wait(kept.job_id, CANCEL_SECONDS)
        return JSONResponse(describe(kept, await self._read(kept)))

    async def delete(self, caller: Caller, response_id: str) -> Response:
        """Cancel a response's job if it has not finished, and forget both. Raises ApiError 404."""
        kept = await self._find(caller, response_id)
        client = self._gateway.queues[kept.queue].client
        await self._store.delete(caller.tenant, response_id)
        await self._conversations.delete(caller.tenant, response_id)
        with suppress(InvalidRequestError, TimeoutError):
            await client.cancel(kept.job_id, DELETED)
            await client.wait(kept.job_id, CANCEL_SECONDS)
        await client.forget(kept.job_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    @property
    def _lifetime_seconds(self) -> float:
        return self._gateway.result_ttl_seconds + UNFINISHED_SECONDS

    async def _said_before(self, caller: Caller, body: ResponseRequest) -> Messages:
        """Return the conversation that a request continues. Raises ApiError 400 if it cannot be continued."""
        response_id = body.previous_response_id
        if response_id is None:
            return []
        try:
            record = await self._read(await self._find(caller, response_id))
        except ApiError:
            raise not_found(response_id) from None
        said = await self._conversations.continue_from(caller.tenant, response_id, record)
        check_size([*said, *read_input(body)])
        return said

    async def _save(self, caller: Caller, kept: Kept) -> None:
        await self._store.save(caller.tenant, kept.id, kept.model_dump_json(), self._lifetime_seconds)

    async def _note_job(self, caller: Caller, kept: Kept, job_id: str) -> Kept:
        """Return the response with its job, which is another one if the request was repeated (Idempotency-Key)."""
        if job_id == kept.job_id:
            return kept
        changed = kept.model_copy(update={"job_id": job_id})
        if await self._store.load(caller.tenant, kept.id) is not None:
            await self._save(caller, changed)
        return changed

    async def _find(self, caller: Caller, response_id: str) -> Kept:
        found = await self._store.load(caller.tenant, response_id)
        kept = Kept.model_validate_json(found) if found else None
        if kept is None or kept.queue not in self._gateway.queues:
            raise _not_found(response_id)
        return kept

    async def _read(self, kept: Kept) -> JobRecord:
        try:
            return await self._gateway.queues[kept.queue].client.result(kept.job_id)
        except InvalidRequestError:
            raise _not_found(kept.id) from None


async def _written(kept: Kept, answers: Answers, first: int, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    """Yield the events of a response from number ``first`` on. Tokens are counted before the text is called done."""
    number = -1
    try:
        async for event in events_of(kept, answers):
            number = event["sequence_number"]
            if event["type"] == "response.output_text.done":
                await stack.aclose()
            if number >= first:
                yield to_event(event)
    except ApiError as error:
        record = answers.choices[0].record
        is_cancelled = record is not None and record.state is JobState.CANCELLED
        failed = failure_event(kept, record, error, number + 1)
        yield to_event({**failed, "response": describe(kept, record)} if is_cancelled else failed)
    except NO_ANSWER as error:
        yield to_event({"type": "error", "sequence_number": number + 1, **explain(error).body["error"]})


def _order_of(kept: Kept) -> Order:
    """Return what following a kept response needs to know of its request."""
    return Order(
        model=kept.model,
        preset=Preset(queue=kept.queue),
        jobs=(),
        stop=kept.stop,
        thinking=kept.thinking,
        drops_low_step_below=kept.drops_low_step_below,
        is_stream=True,
        with_usage=False,
        with_steps=False,
        is_kept=True,
    )


def _not_found(response_id: str) -> ApiError:
    return ApiError(404, f"id: no response {response_id[:100]}", param="id", code="response_not_found")
