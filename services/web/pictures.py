"""Pictures of a verdict: the upload, the original it was compared with, both compared, and the mask as layers.

In: a verdict's tenant and upload id, and which picture. Out: a JPEG or PNG that we encoded ourselves from decoded
pixels. There is no way to ask for an object by its key, and no way to get the bytes that somebody uploaded. Every view
is in the audit log before the picture is out, also when the browser has it still; what cannot be logged is not shown.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.core.access import Role
from services.core.comparison import Laid, aligned, difference, lay
from services.core.events import Path, VerdictReached
from services.core.preview import JPEG_QUALITY, flagged, overlay, preview
from services.web.access import Who, at_least
from services.web.pages import Kind, Size
from services.web.parts import Options, Parts
from services.web.problems import Refused
from services.web.verdicts import at_revision, history

SIDES: dict[Size, int] = {"thumb": 400, "view": 1280, "full": 4096}  # pixels of the longer side
FULL_QUALITY = 94  # of a JPEG that somebody looks at pixel by pixel
AT_ONCE = 2  # decoders beside each other; a large picture takes some 200 MB while it is decoded
CACHED = "private, no-cache"  # a browser may keep it, but asks us before each view: may they still, and it is logged


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read and how to turn it into something to show. `tag` changes whenever the answer would."""

    object_keys: tuple[str, ...]
    tag: str
    media_type: str
    draw: Callable[..., bytes]


def router(parts: Parts, options: Options) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    room = asyncio.Semaphore(AT_ONCE)

    async def draw(wanted: Wanted) -> bytes:
        async with room:
            data = [await parts.objects.get(key, options.max_bytes) for key in wanted.object_keys]
            return await asyncio.to_thread(wanted.draw, *data)

    @routes.get(
        "/pictures/{kind}/{tenant}/{upload_id:path}",
        include_in_schema=False,
        dependencies=[Depends(at_least(Role.VIEWER))],
    )
    async def picture(
        request: Request,
        person: Who,
        kind: Kind,
        tenant: str,
        upload_id: str,
        size: Annotated[Size, Query()] = "view",
        r: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        # Of the revision that was asked for: a newer one may have another mask, which whoever decides must not see.
        verdict = at_revision(await history(parts.verdicts, person, tenant, upload_id), r)[-1]
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


def can_be_aligned(verdict: VerdictReached) -> bool:
    """Whether the verdict says how its original lies in the upload."""
    if verdict.image is None or verdict.candidate is None:
        return False
    return verdict.candidate.homography is not None or verdict.path is Path.IDENTICAL


def _wanted(verdict: VerdictReached, kind: Kind, size: Size, options: Options) -> Wanted:
    side = SIDES[size]
    quality = FULL_QUALITY if size == "full" else JPEG_QUALITY
    jpeg = partial(preview, max_side=side, max_pixels=options.max_pixels, quality=quality)
    match kind:
        case "upload" if verdict.image is not None:
            return Wanted((verdict.image.object_key,), f"{verdict.image.sha256}-{size}", "image/jpeg", jpeg)
        case "original" if verdict.candidate is not None:
            return Wanted((verdict.candidate.object_key,), f"{verdict.candidate.sha256}-{size}", "image/jpeg", jpeg)
        case "aligned" if can_be_aligned(verdict):
            return _compared(verdict, size, aligned, options)
        case "difference" if can_be_aligned(verdict):
            return _compared(verdict, size, difference, options)
        case "mask" | "outline" | "flagged" if verdict.mask is not None:
            tag = f"{kind}-{verdict.mask.object_key.rsplit('/', 1)[-1]}-{size}-{options.policy.mask_threshold:g}"
            return Wanted((verdict.mask.object_key,), tag, "image/png", _mask_layer(kind, side, options))
    raise Refused(404, "no_picture", f"The verdict for upload {verdict.upload_id!r} has no {kind}.")


def _mask_layer(kind: Kind, side: int, options: Options) -> Callable[[bytes], bytes]:
    """`flagged` is the decision in the mask's own pixels, whatever size was asked for: corrections start from it."""
    if kind == "flagged":
        return partial(flagged, threshold=options.policy.mask_threshold, max_pixels=options.max_pixels)
    layer = partial(overlay, max_side=side, threshold=options.policy.mask_threshold, max_pixels=options.max_pixels)
    return partial(layer, fill=0.0) if kind == "outline" else layer


def _compared(verdict: VerdictReached, size: Size, show: Callable[[Laid], bytes], options: Options) -> Wanted:
    """The upload and its original in the upload's frame."""
    image, candidate = verdict.image, verdict.candidate
    assert image is not None and candidate is not None  # `can_be_aligned`

    def draw(upload: bytes, original: bytes) -> bytes:
        laid = lay(upload, original, candidate.homography, max_side=SIDES[size], max_pixels=options.max_pixels)
        return show(laid)

    map_tag = hashlib.sha256(repr(candidate.homography).encode()).hexdigest()[:12]
    tag = f"{show.__name__}-{image.sha256}-{candidate.sha256}-{map_tag}-{size}"
    return Wanted((image.object_key, candidate.object_key), tag, "image/jpeg", draw)
