"""Uploads over HTTP: a file becomes an object and an `ImageUploaded` event.

In: `multipart/form-data` with the file `image`, and optionally `upload_id` and `tenant`; optionally an idempotency key.
Out: 202 once Kafka has acknowledged the event, with the address where the verdict will be. Nothing is decoded here; the
guard does that.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message as AsgiMessage
from starlette.types import Receive

from services.clients.cases import Verdicts
from services.core.access import Person, Role
from services.core.envelope import encode
from services.core.errors import Rejected
from services.core.events import ImageUploaded, ObjectImage
from services.core.intake.keys import incoming_key
from services.web.access import Who, at_least, own_tenant, seen
from services.web.idempotency import PARAMETER, fingerprint_of, once
from services.web.pages import verdict_link
from services.web.parts import Options, Parts
from services.web.problems import Refused, problems

FORM_BYTES = 10_000  # what boundaries and the other fields may add to the file
AT_ONCE = 4  # files in memory beside each other

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "upload_id": {
                            "type": "string",
                            "maxLength": 200,
                            "description": "Chosen by the client; sending it again changes nothing.",
                        },
                        "tenant": {"type": "string", "default": "default"},
                    },
                }
            }
        },
    }
}


class Accepted(BaseModel):
    """The upload is on its way. `verdict` is where its verdict will be."""

    upload_id: str
    tenant: str
    event_id: str
    sha256: str
    verdict: str


def router(parts: Parts, options: Options) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    room = asyncio.Semaphore(AT_ONCE)

    @routes.post(
        "/api/v1/uploads",
        status_code=202,
        response_model=Accepted,
        summary="Upload an image",
        responses=problems(409, 413, 415),
        openapi_extra={**FORM, **PARAMETER},
        dependencies=[Depends(at_least(Role.MODERATOR))],
    )
    async def upload(request: Request, person: Who) -> Response:
        """The verdict comes later, where the answer says."""
        refuse_long(request, options.max_bytes)
        async with room:
            form = await form_of(request, options.max_bytes + FORM_BYTES)
            try:
                event, data = await _read(form, person, parts, options.max_bytes)
                # By what the form says: a client that sends it again draws another boundary.
                asked = fingerprint_of(str(form.get("upload_id") or ""), event.tenant, event.filename, event.sha256)
            finally:
                await form.close()

            async def taken() -> Response:
                await _check_conflict(parts.verdicts, event)
                await parts.objects.put(_key(event), data, "application/octet-stream")
                await _send(event, parts, options.source)
                return _accepted(event)

            return await once(request, asked, taken)

    return routes


def refuse_long(request: Request, max_bytes: int) -> None:
    """Raises Rejected where the request says itself that it is too long."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + FORM_BYTES:
        raise Rejected("too_large", f"The request has {announced} bytes, an image may have {max_bytes}.")


async def form_of(request: Request, limit: int) -> FormData:
    """The form with at most one file. Raises Rejected beyond `limit` bytes, Refused where it cannot be read."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "not_multipart", "Send multipart/form-data with the file in the field `image`.")
    limited = Request(request.scope, _limited(request.receive, limit))
    try:
        return await limited.form(max_files=1, max_fields=4, max_part_size=2000)
    except HTTPException as error:
        raise Refused(422, "invalid_form", f"The form cannot be read: {error.detail}") from error


def _limited(receive: Receive, limit: int) -> Receive:
    """The same body, cut off with Rejected once it is longer than `limit` bytes, whatever length it announced."""
    received = 0

    async def counted() -> AsgiMessage:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise Rejected("too_large", f"The request has more than {limit} bytes.")
        return message

    return counted


async def _read(form: FormData, person: Person, parts: Parts, max_bytes: int) -> tuple[ImageUploaded, bytes]:
    image, upload_id, tenant = form.get("image"), form.get("upload_id"), form.get("tenant")
    if not isinstance(image, UploadFile):
        raise Refused(422, "no_image", "The form has no file in the field `image`.")
    if isinstance(upload_id, UploadFile) or isinstance(tenant, UploadFile):
        raise Refused(422, "invalid_form", "`upload_id` and `tenant` are texts, not files.")
    tenant = seen(person, tenant or own_tenant(person))
    data = await image.read()
    if not data:
        raise Rejected("empty", "The file in the field `image` has no bytes.")
    if len(data) > max_bytes:
        raise Rejected("too_large", f"The image has {len(data)} bytes, at most {max_bytes} are allowed.")
    digest = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    try:
        event = ImageUploaded(
            upload_id=upload_id or str(uuid4()),
            tenant=tenant,
            image=ObjectImage(object_key=incoming_key(digest)),
            uploaded_at=parts.now(),
            filename=(image.filename or "")[-400:] or None,
            sha256=digest,
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Refused(422, "invalid_form", faults) from error
    return event, data


async def _check_conflict(verdicts: Verdicts, event: ImageUploaded) -> None:
    """An id that was judged with other bytes is a mistake of the client; with the same bytes it is a repetition."""
    known = await verdicts.get(event.tenant, event.upload_id)
    image = known[-1].image if known else None
    if image is not None and image.sha256 != event.sha256:
        text = f"Upload {event.upload_id!r} was already judged with other bytes (SHA-256 {image.sha256})."
        raise Refused(409, "upload_id_taken", text)


async def _send(event: ImageUploaded, parts: Parts, source: str) -> None:
    """The event, with the trace that the image will have all the way to its verdict."""
    with parts.telemetry.span_send(event.topic, key=event.key().encode(), message_id=event.event_id()):
        trace = parts.telemetry.inject()
        await parts.sender.send(encode(event, source=f"{source}/web", time=event.uploaded_at, trace=trace))


def _key(event: ImageUploaded) -> str:
    return event.image.object_key if isinstance(event.image, ObjectImage) else ""


def _accepted(event: ImageUploaded) -> JSONResponse:
    where = verdict_link(event.tenant, event.upload_id, api=True)
    body = Accepted(
        upload_id=event.upload_id,
        tenant=event.tenant,
        event_id=event.event_id(),
        sha256=event.sha256 or "",
        verdict=where,
    )
    return JSONResponse(body.model_dump(), 202, {"location": where})
