"""The routes of the page: ``/`` and ``/page/…``."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.gateway.web.files import INDEX, PageFile, load_files, make_file
from services.gateway.web.parameters import describe_methods

PAGE_ROUTE = "/"
FILE_ROUTE = "/page/{path:path}"
METHODS_FILE = "methods.json"  # made here: the page's forms follow the schema of a job

# Nothing runs or loads that is not a file of the page, no text becomes markup, and no other page may show this one.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # a browser asks each time, and gets 304 for what it has
    "Vary": "Accept-Encoding",
}


def add_page_routes(app: FastAPI) -> None:
    """Add the page, which anyone may load: it holds no data, and asks for the key itself."""
    files = {**load_files(), METHODS_FILE: make_file(METHODS_FILE, describe_methods())}

    @app.api_route(PAGE_ROUTE, methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        return _send(request, files[INDEX])

    @app.api_route(FILE_ROUTE, methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, path: str) -> Response:
        found = files.get(path)
        if found is None:
            raise HTTPException(404)
        return _send(request, found)


def _send(request: Request, file: PageFile) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in _listed(request.headers.get("if-none-match", "")):
        return Response(None, 304, headers)
    content = file.content
    if file.compressed is not None and "gzip" in _listed(request.headers.get("accept-encoding", "")):
        content = file.compressed
        headers["Content-Encoding"] = "gzip"
    return Response(content, 200, headers, file.media_type)


def _listed(header: str) -> set[str]:
    """Return the values of a list in a header, weak tags as strong ones and without weights; weight 0 is a no."""
    values = (value.strip().replace(" ", "") for value in header.split(","))
    return {value.partition(";")[0].removeprefix("W/") for value in values if not value.endswith((";q=0", ";q=0.0"))}
