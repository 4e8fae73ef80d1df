"""The Files API."""

import time
from functools import partial
from secrets import token_hex

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from batchsim.endpoint import before_effect
from batchsim.errors import ApiError, missing_parameter, outside_range, unsupported_value
from batchsim.faults import bytes_kept, bytes_off, list_after, list_horizon, list_limit, shows_first_page
from batchsim.query import integer_parameter
from batchsim.rate import MINUTE_SECONDS, take
from batchsim.records import FileRecord, file_object
from batchsim.settings import Limits
from batchsim.store import Store
from batchsim.upload import Upload, boundary_of

PURPOSES = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
BATCH_FILE_SECONDS = 30 * 86_400
EXPIRY_SECONDS_MIN = 3_600
EXPIRY_SECONDS_MAX = 2_592_000
LIST_LIMIT_MAX = 10_000


class Download(FileResponse):
    """A file streamed from disk."""

    chunk_size = 256 * 1024


class FileRoutes:
    """Handlers of the Files API."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.limits = limits
        self.downloads: dict[str, int] = {}

    async def create(self, request: Request) -> Response:
        """`POST /v1/files`."""
        used = self.store.files_uploaded_since(time.time() - MINUTE_SECONDS)
        rate = take("file uploads", "files", self.limits.uploads_per_minute, used, MINUTE_SECONDS)
        path = self.store.folder.scratch / token_hex(8)
        upload = Upload(path, boundary_of(request), partial(file_bytes_max, self.limits))
        try:
            await upload.receive(request)
            purpose = upload.fields.get("purpose")
            if purpose is None:
                raise missing_parameter("purpose")
            if purpose not in PURPOSES:
                raise unsupported_value("purpose", purpose, PURPOSES)
            expiry = upload_expiry_seconds(upload.fields, purpose)
            if self.store.stored_bytes() + upload.bytes > self.limits.storage_bytes:
                raise ApiError(400, storage_message(self.limits.storage_bytes))
            upload.shorten(bytes_kept(request, upload.bytes))
            await before_effect(request)
            record = await self.store.add_upload(path, upload.filename or "", purpose, upload.bytes, expiry)
        finally:
            upload.close()
            path.unlink(missing_ok=True)
        return JSONResponse(file_object(record), headers=rate)

    async def list(self, request: Request) -> Response:
        """`GET /v1/files`."""
        largest = list_limit(request, LIST_LIMIT_MAX)
        limit = integer_parameter(request, "limit", largest, 1, largest)
        order = request.query_params.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise unsupported_value("order", order, ["asc", "desc"])
        files = self.store.files(
            limit=limit + 1,
            newest_first=order == "desc",
            purpose=request.query_params.get("purpose"),
            after=list_after(request),
            created_before=list_horizon(request),
        )
        page = files[:limit]
        return JSONResponse(
            {
                "object": "list",
                "data": [file_object(record) for record in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(files) > limit or shows_first_page(request),
            }
        )

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/files/{file_id}`."""
        return JSONResponse(file_object(self.known(request), bytes_off(request)))

    async def content(self, request: Request) -> Response:
        """`GET /v1/files/{file_id}/content`."""
        record = self.known(request)
        self.downloads[record.id] = self.downloads.get(record.id, 0) + 1
        path, reordered = self.store.folder.file(record.id), self.store.folder.reordered(record.id)
        if self.downloads[record.id] > 1 and reordered.exists():
            path = reordered
        return Download(path, media_type="application/octet-stream", filename=record.filename)

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/files/{file_id}`."""
        record = self.known(request)
        await before_effect(request)
        if not await self.store.delete_file(record.id):
            raise no_such_file(record.id)
        return JSONResponse({"id": record.id, "object": "file", "deleted": True})

    def known(self, request: Request) -> FileRecord:
        """The file that the path names."""
        file_id: str = request.path_params["file_id"]
        record = self.store.file(file_id)
        if record is None:
            raise no_such_file(file_id)
        return record


def no_such_file(file_id: str) -> ApiError:
    """There is no file of that id, or no longer."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def file_bytes_max(limits: Limits, fields: dict[str, str]) -> int:
    """How large an upload may be, by its purpose."""
    return limits.batch_file_bytes if fields.get("purpose") == "batch" else limits.file_bytes


def storage_message(limit_bytes: int) -> str:
    """What is said when the files of an organisation take all the space it has."""
    unit, size = ("TB", 1e12) if limit_bytes >= 1e12 else ("GB", 1e9)  # noqa: PLR2004 - a terabyte
    return (
        f"You have exceeded your file storage quota. Organizations are limited to {limit_bytes / size:g} {unit} of "
        "files. Please delete old files or attempt with a smaller file size."
    )


def upload_expiry_seconds(fields: dict[str, str], purpose: str) -> int | None:
    """After how many seconds an uploaded file expires; None for never."""
    text = fields.get("expires_after[seconds]")
    anchor = fields.get("expires_after[anchor]")
    if text is None and anchor is None:
        return BATCH_FILE_SECONDS if purpose == "batch" else None
    if anchor != "created_at":
        raise unsupported_value("expires_after.anchor", anchor, ["created_at"])
    if text is None or not text.isdecimal():
        raise missing_parameter("expires_after.seconds")
    seconds = int(text)
    if not EXPIRY_SECONDS_MIN <= seconds <= EXPIRY_SECONDS_MAX:
        raise outside_range("expires_after.seconds", seconds, EXPIRY_SECONDS_MIN, EXPIRY_SECONDS_MAX)
    return seconds
