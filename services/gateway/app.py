"""The routes of the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from services.gateway.api_page import add_api_page
from services.gateway.batches.batches import Batches
from services.gateway.callers import Reader, Submitter, let_in
from services.gateway.documents import ChatDocument, TextDocument, describe_model, list_models
from services.gateway.errors import ApiError
from services.gateway.file_routes import add_batch_routes, add_file_routes
from services.gateway.files import Files
from services.gateway.gateway import NO_ANSWER, Gateway, answer_error
from services.gateway.gsi_api.evaluations import Evaluations
from services.gateway.gsi_api.routes import add_gsi_routes
from services.gateway.middleware import RequestScope
from services.gateway.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    ResponseRequest,
    first_error,
    read_messages,
)
from services.gateway.responses.responses import Responses
from services.gateway.settings import GatewaySettings
from services.gateway.translation import questions_of
from services.gateway.web.routes import add_page_routes

log = structlog.get_logger()

EXPOSED_HEADERS = ("x-request-id", "retry-after")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes call. ``batches`` None: the gateway has no place for files."""

    gateway: Gateway
    responses: Responses
    files: Files
    batches: Batches | None
    evaluations: Evaluations


def make_app(parts: Parts, settings: GatewaySettings) -> FastAPI:
    """Return the application, whose OpenAPI description is at ``/openapi.json``, and at ``/docs`` for people."""
    gateway = parts.gateway
    about = "OpenAI's API over a queue of GSI jobs."
    app = FastAPI(title="GSI gateway", description=about, docs_url=None, redoc_url=None)
    let_in(app, gateway.guard)
    add_api_page(app)
    _add_probes(app, gateway)
    _add_models(app, gateway)
    _add_completions(app, gateway)
    _add_responses(app, parts.responses)
    add_file_routes(app, parts.files)
    add_batch_routes(app, parts.batches)
    add_gsi_routes(app, gateway, parts.evaluations)
    if settings.page:
        add_page_routes(app)
    app.add_exception_handler(ApiError, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    for kind in NO_ANSWER:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(Exception, _answer_unexpected)
    app.add_middleware(
        RequestScope,
        max_body_bytes=settings.max_body_bytes,
        max_file_bytes=settings.max_file_bytes,
        max_header_bytes=settings.max_header_bytes,
        is_full=lambda: gateway.count_connections() > settings.max_connections,
        is_local=not settings.keys,
        allowed_origins=settings.allowed_origins,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    return app


def _add_probes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health", summary="Whether the process lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Whether requests can be answered: Redis answers, and the gateway does not stop")
    async def ready() -> JSONResponse:
        is_ready = gateway.is_ready
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)


def _add_models(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/models", summary="The models that the key may ask")
    async def models(caller: Reader) -> dict[str, Any]:
        return list_models(gateway.guard.list_models(caller))

    @app.get("/v1/models/{model:path}", summary="A model")
    async def model(caller: Reader, model: str) -> dict[str, Any]:
        return describe_model(model, gateway.guard.find_model(caller, model))


def _add_completions(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/chat/completions", summary="Answer a conversation")
    async def chat(request: Request, caller: Submitter, body: ChatCompletionRequest) -> Response:
        question = {"messages": read_messages(body.messages)}
        return await gateway.answer(request, caller, body, [question], ChatDocument)

    @app.post("/v1/completions", summary="Answer prompts")
    async def completions(request: Request, caller: Submitter, body: CompletionRequest) -> Response:
        return await gateway.answer(request, caller, body, questions_of(body), TextDocument)


def _add_responses(app: FastAPI, responses: Responses) -> None:
    @app.post("/v1/responses", summary="Answer, now or in the background")
    async def create(request: Request, caller: Submitter, body: ResponseRequest) -> Response:
        return await responses.create(request, caller, body)

    @app.get("/v1/responses/{response_id}", summary="A response as it is now, or its events")
    async def retrieve(
        caller: Reader,
        response_id: str,
        stream: bool = False,
        starting_after: int = -1,
    ) -> Response:
        return await responses.retrieve(caller, response_id, is_stream=stream, starting_after=starting_after)

    @app.post("/v1/responses/{response_id}/cancel", summary="Cancel a response")
    async def cancel(caller: Submitter, response_id: str) -> Response:
        return await responses.cancel(caller, response_id)

    @app.delete("/v1/responses/{response_id}", summary="Delete a response with its job")
    async def delete(caller: Submitter, response_id: str) -> Response:
        return await responses.delete(caller, response_id)


def _answer_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.to_response()


def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return first_error(list(error.errors())).to_response()


def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return ApiError(error.status_code, message, headers=headers).to_response()


def _answer_unexpected(_request: Request, error: Exception) -> JSONResponse:
    log.error("a request failed", exc_info=error)
    return ApiError(500, "internal error; the gateway's log has it", kind="server_error").to_response()
