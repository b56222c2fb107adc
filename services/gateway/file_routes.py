"""The routes of files and batches."""

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.gateway.batches.batches import Batches
from services.gateway.batches.documents import Batch
from services.gateway.callers import Reader, Submitter
from services.gateway.errors import ApiError, refuse
from services.gateway.files import File, Files

MAX_FIELDS = 10


def _off() -> ApiError:
    """Return a new error each time: one that is raised again keeps the frames of every request before."""
    return ApiError(501, "files and batches are off: the operator sets GSI_GATEWAY_FILES", code="not_configured")


def add_file_routes(app: FastAPI, files: Files) -> None:
    """Add ``/v1/files``."""

    def check() -> None:
        if not files.is_on:
            raise _off()

    @app.post("/v1/files", summary="Upload a file of requests")
    async def upload(request: Request, caller: Submitter) -> Response:
        check()
        async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            source = _read_form(form)
            file = await files.upload(caller.tenant, (source.filename or "file")[:200], source.file)
        return JSONResponse(file.model_dump())

    @app.get("/v1/files", summary="The files of the key's tenant, the newest first")
    async def list_files(
        caller: Reader,
        limit: int = 20,
        after: str | None = None,
        purpose: str | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        check()
        found, has_more = await files.list(caller.tenant, limit, after, purpose, oldest_first=order == "asc")
        return JSONResponse(_page([file.model_dump() for file in found], found, has_more=has_more))

    @app.get("/v1/files/{file_id}", summary="A file")
    async def retrieve(caller: Reader, file_id: str) -> Response:
        check()
        return JSONResponse((await files.find(caller.tenant, file_id)).model_dump())

    @app.get("/v1/files/{file_id}/content", summary="What a file holds")
    async def content(caller: Reader, file_id: str) -> Response:
        check()
        opened = await files.open(caller.tenant, file_id)
        return StreamingResponse(files.pieces(opened), media_type="application/octet-stream")

    @app.delete("/v1/files/{file_id}", summary="Delete a file")
    async def delete(caller: Submitter, file_id: str) -> Response:
        check()
        return JSONResponse(await files.delete(caller.tenant, file_id))


def add_batch_routes(app: FastAPI, batches: Batches | None) -> None:
    """Add ``/v1/batches``."""

    def known() -> Batches:
        if batches is None:
            raise _off()
        return batches

    @app.post("/v1/batches", summary="Answer the requests of a file")
    async def create(caller: Submitter, body: dict[str, Any]) -> Response:
        return JSONResponse((await known().create(caller, body)).to_dict())

    @app.get("/v1/batches", summary="The batches of the key's tenant, the newest first")
    async def list_batches(caller: Reader, limit: int = 20, after: str | None = None) -> Response:
        found, has_more = await known().list(caller.tenant, limit, after)
        return JSONResponse(_page([batch.to_dict() for batch in found], found, has_more=has_more))

    @app.get("/v1/batches/{batch_id}", summary="A batch")
    async def retrieve(caller: Reader, batch_id: str) -> Response:
        return JSONResponse((await known().find(caller.tenant, batch_id)).to_dict())

    @app.post("/v1/batches/{batch_id}/cancel", summary="Cancel a batch")
    async def cancel(caller: Submitter, batch_id: str) -> Response:
        return JSONResponse((await known().cancel(caller.tenant, batch_id)).to_dict())


def _read_form(form: FormData) -> UploadFile:
    """Return the file of a form. Raises ApiError for one without, or with fields that would be forgotten."""
    for name in form.keys() - {"file", "purpose"}:
        raise refuse(name, "not supported; allowed: file, purpose", "unsupported_parameter")
    source = form.get("file")
    if not isinstance(source, UploadFile):
        raise refuse("file", "missing; allowed: a file")
    if form.get("purpose") != "batch":
        raise refuse("purpose", "not supported; allowed: batch")
    return source


def _page(data: list[dict[str, Any]], found: Sequence[File | Batch], *, has_more: bool) -> dict[str, Any]:
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
