"""``/v1/files``: the inputs and outputs of batches, in a folder or a bucket that all gateways share."""

import asyncio
import io
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from typing import IO, Any, TypeVar, cast

import fsspec
import structlog
from fsspec.asyn import AsyncFileSystem
from pydantic import BaseModel, ConfigDict

from gsi.errors import MisconfiguredError
from gsi.jobs.documents import Documents
from services.gateway.errors import ApiError
from services.gateway.settings import GatewaySettings

log = structlog.get_logger()

T = TypeVar("T")
LIFETIME_SECONDS = 30 * 86_400.0
CHUNK_BYTES = 2**18
MAX_LISTED = 100


class File(BaseModel):
    """A file as OpenAI's clients read it."""

    model_config = ConfigDict(frozen=True)

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"


class FilesAwayError(ApiError):
    """The place of the files cannot be used now."""

    def __init__(self) -> None:
        message = "the place of the files cannot be used; the gateway's log says why"
        super().__init__(503, message, kind="server_error", code="files_unavailable", headers={"Retry-After": "5"})


class Files:
    """Files of all tenants. Raises MisconfiguredError for a place that cannot be used."""

    def __init__(self, settings: GatewaySettings, documents: Documents) -> None:
        self._documents = documents
        self._max_bytes = settings.max_file_bytes
        self.is_on = settings.files is not None
        try:
            # Other gateways write as well, so a listing is not kept.
            self._system, self._root = fsspec.core.url_to_fs(
                settings.files or "memory://none", use_listings_cache=False
            )
        except (ImportError, ValueError, OSError) as error:
            raise MisconfiguredError(f"{settings.variable('files')}: {error}") from None

    async def upload(self, tenant: str, filename: str, source: IO[bytes]) -> File:
        """Keep a file of a client. Raises ApiError if it is too long."""
        return await self.write(tenant, f"file-{secrets.token_hex(12)}", filename, "batch", source)

    async def write(self, tenant: str, file_id: str, filename: str, purpose: str, source: IO[bytes]) -> File:
        """Keep a file under an id. A file of this id is replaced."""
        size = await self.call(self._copy, source, self._path(tenant, file_id))
        now = time.time()
        file = File(
            id=file_id,
            bytes=size,
            created_at=int(now),
            expires_at=int(now + LIFETIME_SECONDS),
            filename=filename,
            purpose=purpose,
        )
        await self._documents.save(tenant, file_id, file.model_dump_json(), LIFETIME_SECONDS, now)
        return file

    async def find(self, tenant: str, file_id: str) -> File:
        """Return a file of a tenant. Raises ApiError 404."""
        found = await self._documents.load(tenant, file_id)
        if found is None:
            raise ApiError(404, f"id: no file {file_id[:100]}", param="id", code="file_not_found")
        return File.model_validate_json(found)

    async def list(
        self, tenant: str, limit: int, after: str | None, purpose: str | None = None, *, oldest_first: bool = False
    ) -> tuple[list[File], bool]:
        """Return files, the newest first, and whether there are more. Raises ApiError 404 for an unknown ``after``."""
        page = await self._documents.list(
            tenant,
            min(max(limit, 1), MAX_LISTED),
            after,
            oldest_first=oldest_first,
            is_wanted=lambda document: purpose in {None, File.model_validate_json(document).purpose},
        )
        if page is None:
            raise not_listed("file", after)
        return [File.model_validate_json(document) for document in page[0]], page[1]

    async def open(self, tenant: str, file_id: str) -> IO[bytes]:
        """Open a file for reading; its methods block. Raises ApiError 404 if it is not there, FilesAwayError."""
        await self.find(tenant, file_id)
        opened = await self.call(self._open, self._path(tenant, file_id))
        if opened is None:
            raise ApiError(404, f"id: the bytes of file {file_id} are gone", param="id", code="file_not_found")
        return io.BufferedReader(cast(io.RawIOBase, opened), CHUNK_BYTES)  # fsspec's own readline has no limit

    async def pieces(self, opened: IO[bytes]) -> AsyncIterator[bytes]:
        """Yield a file's bytes, and close it."""
        try:
            while piece := await self.call(opened.read, CHUNK_BYTES):
                yield piece
        finally:
            await asyncio.to_thread(opened.close)

    async def delete(self, tenant: str, file_id: str) -> dict[str, Any]:
        """Delete a file. Raises ApiError 404."""
        await self.find(tenant, file_id)
        await self._documents.delete(tenant, file_id)
        await self.call(self._system.rm, self._path(tenant, file_id))
        return {"id": file_id, "object": "file", "deleted": True}

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what uses the file system, and blocks. Raises FilesAwayError for whatever goes wrong there."""
        try:
            return await asyncio.to_thread(function, *arguments)
        except Exception as error:  # noqa: BLE001 - of a package that the operator chose, with errors of its own
            log.warning("the place of the files cannot be used", reason=f"{type(error).__name__}: {error}")
            raise FilesAwayError from None

    def _open(self, path: str) -> IO[bytes] | None:
        try:
            opened: IO[bytes] = self._system.open(path, "rb")
        except FileNotFoundError:
            return None
        return opened

    def _path(self, tenant: str, file_id: str) -> str:
        return f"{self._root}/tenant-{tenant}/{file_id}"  # a tenant may be called ".."

    def _copy(self, source: IO[bytes], path: str) -> int:
        """Write a file under a name of its own first, so that nobody reads half of it; return its size."""
        if not isinstance(self._system, AsyncFileSystem):  # a bucket has no folders, and would be made by its name
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        part = f"{path}.{secrets.token_hex(4)}.part"
        with self._system.open(part, "wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        self._system.mv(part, path)
        size: int = self._system.info(path)["size"]
        return size


def not_listed(what: str, after: str | None) -> ApiError:
    """Return the refusal of a place in a list that is not known."""
    return ApiError(404, f"after: no {what} {str(after)[:100]}", param="after", code=f"{what}_not_found")
