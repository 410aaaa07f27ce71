"""Originals over HTTP: an administrator vouches for a picture, which uploads are compared with from then on.

In: `multipart/form-data` with the file `image`, and optionally `original_id`, `tenant` and `source`. Out: 202 once
Kafka has acknowledged the event, with the address where it says whether the original can be found yet.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse

from services.clients.library_state import Library
from services.core.access import Person, Role
from services.core.envelope import encode
from services.core.errors import Rejected
from services.core.events import ObjectImage, OriginalRegistered
from services.core.intake.keys import incoming_key
from services.web.access import Who, at_least, seen
from services.web.pages import original_link
from services.web.parts import Options, Parts
from services.web.problems import Refused
from services.web.uploads import FORM, FORM_BYTES, form_of, refuse_long

AT_ONCE = 2  # files in memory beside each other


class Registering(BaseModel):
    """The original is on its way. `original` says whether it can be found yet."""

    original_id: str
    tenant: str
    sha256: str
    original: str


class Registered(BaseModel):
    """Whether uploads are compared with an original already."""

    original_id: str
    tenant: str
    registered: bool


def router(parts: Parts, options: Options) -> APIRouter:
    """Registering, and asking whether it is done."""
    routes = APIRouter(prefix="/api/v1/originals")
    room = asyncio.Semaphore(AT_ONCE)
    library = Library(parts.database)

    @routes.post("", status_code=202, response_model=Registering, openapi_extra=FORM)
    async def register(request: Request, person: Annotated[Person, Depends(at_least(Role.ADMIN))]) -> JSONResponse:
        """Registers a trusted original: later uploads are compared with it, and earlier ones judged again."""
        refuse_long(request, options.max_bytes)
        async with room:
            form = await form_of(request, options.max_bytes + FORM_BYTES)
            try:
                event, data, digest = await _read(form, parts, options.max_bytes)
            finally:
                await form.close()
            seen(person, event.tenant)
            await parts.audit.record(person, "original_registered", tenant=event.tenant)
            await parts.objects.put(incoming_key(digest), data, "application/octet-stream")
        with parts.telemetry.span_send(event.topic, key=event.key().encode(), message_id=event.event_id()):
            trace = parts.telemetry.inject()
            source = f"{options.source}/web"
            await parts.sender.send(encode(event, source=source, time=event.registered_at, trace=trace))
        where = original_link(event.tenant, event.original_id)
        body = Registering(original_id=event.original_id, tenant=event.tenant, sha256=digest, original=where)
        return JSONResponse(body.model_dump(), 202, {"location": where})

    @routes.get("/{tenant}/{original_id:path}", dependencies=[Depends(at_least(Role.VIEWER))])
    async def registered(person: Who, tenant: str, original_id: str) -> Registered:
        """Whether an original can be found yet."""
        there = await library.registered(seen(person, tenant), original_id.replace("\x00", ""))
        return Registered(original_id=original_id, tenant=tenant, registered=there)

    return routes


async def _read(form: FormData, parts: Parts, max_bytes: int) -> tuple[OriginalRegistered, bytes, str]:
    image = form.get("image")
    words = {name: form.get(name) or None for name in ("original_id", "tenant", "source")}
    if not isinstance(image, UploadFile) or any(isinstance(word, UploadFile) for word in words.values()):
        raise Refused(422, "no_image", "Send one file in the field `image`; all other fields are texts.")
    data = await image.read()
    if not data:
        raise Rejected("empty", "The file in the field `image` has no bytes.")
    if len(data) > max_bytes:
        raise Rejected("too_large", f"The image has {len(data)} bytes, at most {max_bytes} are allowed.")
    digest = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    try:
        event = OriginalRegistered(
            original_id=str(words["original_id"] or uuid4()),
            tenant=str(words["tenant"] or "default"),
            image=ObjectImage(object_key=incoming_key(digest)),
            registered_at=parts.now(),
            source=str(words["source"] or "dashboard"),
            filename=(image.filename or "")[-400:] or None,
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise Refused(422, "invalid_form", faults) from error
    return event, data, digest
