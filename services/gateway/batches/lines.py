"""The lines of a batch's input: each a request of one of three endpoints, read as jobs and answered as there."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from pydantic import ValidationError

from services.gateway.answers import Answers
from services.gateway.batches.documents import Batch
from services.gateway.documents import ChatDocument, TextDocument
from services.gateway.errors import ApiError, refuse
from services.gateway.guard import Caller, Guard
from services.gateway.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    ResponseRequest,
    first_error,
    read_input,
    read_instructions,
    read_messages,
)
from services.gateway.responses.documents import describe, keep
from services.gateway.translation import Order, Sender, make_order, questions_of

MAX_LINE_BYTES = 5 * 2**20
KEPT_SECONDS = 3 * 86_400.0  # for which a job waits for the batch's files: the window, and two days more
# The answer is in the output file, and nowhere else; and no line waits for another one's answer.
NOT_IN_A_BATCH = ("stream", "background", "store", "previous_response_id")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch: its jobs, or why it is refused. ``fault``: why the whole batch is."""

    number: int
    custom_id: str = ""
    endpoint: str = ""
    body: GenerationRequest | None = None
    order: Order | None = None
    refusal: ApiError | None = None
    fault: str = ""

    def describe(self, answers: Answers) -> dict[str, Any]:
        """Return what the endpoint answers, now that the line's jobs have ended."""
        return ENDPOINTS[self.endpoint].describe(self.body, answers)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: the form of its bodies, the questions in one, and the form of its answers."""

    form: type[GenerationRequest]
    questions: Callable[[Any], list[dict[str, Any]]]
    describe: Callable[[Any, Answers], dict[str, Any]]


def _describe_chat(_body: GenerationRequest, answers: Answers) -> dict[str, Any]:
    return ChatDocument(f"chatcmpl-{_id_of(answers)}", answers.order.model, answers.finished_at).whole(answers)


def _describe_text(_body: GenerationRequest, answers: Answers) -> dict[str, Any]:
    return TextDocument(f"cmpl-{_id_of(answers)}", answers.order.model, answers.finished_at).whole(answers)


def _questions_of_response(body: ResponseRequest) -> list[dict[str, Any]]:
    return [{"messages": [*read_instructions(body), *read_input(body)]}]


def _describe_response(body: ResponseRequest, answers: Answers) -> dict[str, Any]:
    not_stored = body.model_copy(update={"store": False})
    return describe(keep(answers.order, not_stored, answers.finished_at), answers.choices[0].record)


def _id_of(answers: Answers) -> str:
    return answers.choices[0].job_id.rpartition("-")[0]  # without the number of the choice


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(
        ChatCompletionRequest, lambda body: [{"messages": read_messages(body.messages)}], _describe_chat
    ),
    "/v1/completions": Endpoint(CompletionRequest, questions_of, _describe_text),
    "/v1/responses": Endpoint(ResponseRequest, _questions_of_response, _describe_response),
}


def split(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not empty. One that is too long comes in parts, which are no JSON."""
    while line := source.readline(MAX_LINE_BYTES):
        if line.strip():
            yield line


def read_line(batch: Batch, number: int, raw: bytes, guard: Guard) -> Line:
    """Return a line as jobs, or with what is wrong with it."""
    try:
        given = json.loads(raw)
        custom_id, body = given["custom_id"], given["body"]
        is_right = isinstance(custom_id, str) and isinstance(body, dict) and given.get("method") == "POST"
    except (ValueError, TypeError, KeyError):
        is_right = False
    if not is_right:
        return Line(number, fault="not an object with custom_id, method POST, url and body")
    if given.get("url") != batch.endpoint:
        return Line(number, custom_id, fault=f"url: not {batch.endpoint}, the batch's endpoint")
    try:
        request = _read_body(batch.endpoint, body)
        return Line(number, custom_id, batch.endpoint, request, _make_order(batch, number, request, guard))
    except ApiError as error:
        return Line(number, custom_id, refusal=error)


def _read_body(endpoint: str, body: dict[str, Any]) -> GenerationRequest:
    """Return a body in its endpoint's form. Raises ApiError for one that is not, or asks for more than a file."""
    lane = {} if "gsi_priority" in body else {"priority": "low"}
    try:
        request = ENDPOINTS[endpoint].form.model_validate({**body, "gsi": {**lane, **(body.get("gsi") or {})}})
    except (ValidationError, TypeError) as error:
        details: list[Any] = list(error.errors()) if isinstance(error, ValidationError) else []
        raise (first_error(details) if details else ApiError(400, "gsi: not an object", param="gsi")) from None
    for name in NOT_IN_A_BATCH:
        if getattr(request, name, None):
            raise refuse(name, "not in a batch; allowed: false or absent")
    return request


def _make_order(batch: Batch, number: int, request: GenerationRequest, guard: Guard) -> Order:
    """Return a line's jobs. Raises ApiError for a request that is refused."""
    preset = guard.find_model(Caller(batch.tenant, batch.key), request.model)
    sender = Sender(f"{batch.job_prefix}-{number}", batch.tenant)
    return make_order(request, ENDPOINTS[batch.endpoint].questions(request), preset, sender, KEPT_SECONDS)
