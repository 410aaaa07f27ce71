"""Pictures of a verdict: the upload, the original it was compared with, and the mask as a coloured layer.

In: a verdict's tenant and upload id, and which picture. Out: a JPEG or PNG that we encoded ourselves from decoded
pixels. There is no way to ask for an object by its key, and no way to get the bytes that somebody uploaded. Every view
is in the audit log before the picture is out, also when the browser has it still; what cannot be logged is not shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.core.access import Role
from services.core.events import VerdictReached
from services.core.preview import overlay, preview
from services.web.access import Who, at_least
from services.web.pages import Kind, Size
from services.web.parts import Options, Parts
from services.web.problems import Refused
from services.web.verdicts import newest

SIDES: dict[Size, int] = {"thumb": 400, "view": 1280}  # pixels of the longer side
AT_ONCE = 2  # decoders beside each other; a large picture takes some 200 MB while it is decoded
CACHED = "private, no-cache"  # a browser may keep it, but asks us before each view: may they still, and it is logged


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read and how to turn it into something to show. `tag` changes whenever the answer would."""

    object_key: str
    tag: str
    media_type: str
    draw: Callable[[bytes], bytes]


def router(parts: Parts, options: Options) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    room = asyncio.Semaphore(AT_ONCE)

    async def draw(wanted: Wanted) -> bytes:
        async with room:
            data = await parts.objects.get(wanted.object_key, options.max_bytes)
            return await asyncio.to_thread(wanted.draw, data)

    @routes.get(
        "/pictures/{kind}/{tenant}/{upload_id:path}",
        include_in_schema=False,
        dependencies=[Depends(at_least(Role.VIEWER))],
    )
    async def picture(
        request: Request, person: Who, kind: Kind, tenant: str, upload_id: str, size: Annotated[Size, Query()] = "view"
    ) -> Response:
        verdict = await newest(parts.verdicts, person, tenant, upload_id)
        wanted = _wanted(verdict, kind, size, options)
        headers = {"etag": f'"{wanted.tag}"', "cache-control": CACHED}
        said = {"kind": kind, "size": size, "revision": verdict.revision}
        logged = parts.audit.record(person, "picture_viewed", tenant=tenant, upload_id=upload_id, details=said)
        if request.headers.get("if-none-match") == headers["etag"]:
            await logged
            return Response(status_code=304, headers=headers)
        drawn, _ = await asyncio.gather(draw(wanted), logged)
        return Response(drawn, media_type=wanted.media_type, headers=headers)

    return routes


def _wanted(verdict: VerdictReached, kind: Kind, size: Size, options: Options) -> Wanted:
    side = SIDES[size]
    jpeg = partial(preview, max_side=side, max_pixels=options.max_pixels)
    layer = partial(overlay, max_side=side, threshold=options.mask_threshold, max_pixels=options.max_pixels)
    match kind:
        case "upload" if verdict.image is not None:
            return Wanted(verdict.image.object_key, f"{verdict.image.sha256}-{size}", "image/jpeg", jpeg)
        case "original" if verdict.candidate is not None:
            return Wanted(verdict.candidate.object_key, f"{verdict.candidate.sha256}-{size}", "image/jpeg", jpeg)
        case "mask" if verdict.mask is not None:
            tag = f"{verdict.mask.object_key.rsplit('/', 1)[-1]}-{size}-{options.mask_threshold:g}"
            return Wanted(verdict.mask.object_key, tag, "image/png", layer)
    raise Refused(404, "no_picture", f"The verdict for upload {verdict.upload_id!r} has no {kind}.")
