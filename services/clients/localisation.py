"""What a localisation model answers: a mask as PNG, and in one tEXt chunk what the model says about it.

In: the bytes of the PNG. Out: a `Localisation`. Pixels stay compressed here: the chunks are walked, checked and
bounded, and the mask is decoded where it is needed. The same PNG comes from every model server, so the servers' clients
share this file. The chunk's keyword is `pentimento`; its text is JSON:

    {"model", "version", "kind", "score", "qes", "inliers", "overlap", "width", "height", "seconds", "notes",
     "copies"}

PNG chunks: https://www.w3.org/TR/png-3/#5Chunk-layout
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.core.errors import REJECTION_CODES, Broken, Rejected
from services.core.events import ModelVersion
from services.core.evidence import CopiedPart

KEYWORD = b"pentimento"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_BYTES = 16_384
"""Longest tEXt chunk that is read; the handlers write about 250 bytes."""

Kind = Literal["spg", "sdg", "unrelated"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = Annotated[int, Field(gt=0)]
Note = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


@dataclass(frozen=True, slots=True)
class Localisation:
    """A model's answer for one upload.

    `png` is an 8-bit grey picture of the upload's full oriented size, 0..255 = probability 0..1 of manipulation.
    `score` (calibrated) and `qes` are 0..1. `kind`, `inliers` and `overlap` (0..1) are None where no original was
    compared. `width` and `height` are pixels, `seconds` is the time that the model took. `notes` say which evidence was
    missing or weak, slugs of `services.core.evidence`, and of servers that are newer than this client;
    `copies` are parts of the upload that are there twice.
    """

    png: bytes = field(repr=False)
    model: ModelVersion
    kind: Kind | None
    score: float
    qes: float
    inliers: int | None
    overlap: float | None
    width: int
    height: int
    seconds: float
    notes: tuple[str, ...] = ()
    copies: tuple[CopiedPart, ...] = ()


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["rejected", "broken"]
    code: str | None = None
    message: str


class _Refusal(BaseModel):
    error: _Fault


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    kind: Kind | None = None
    score: Share
    qes: Share
    inliers: Annotated[int, Field(ge=0)] | None = None
    overlap: Share | None = None
    width: Size
    height: Size
    seconds: Annotated[float, Field(ge=0.0)]
    notes: Annotated[tuple[Note, ...], Field(max_length=32)] = ()
    copies: Annotated[tuple[CopiedPart, ...], Field(max_length=8)] = ()


def read_localisation(png: bytes, *, model: str) -> Localisation:
    """The answer of the model called `model` in its PNG.

    Raises Broken, with what is wrong, for anything that the handlers never write: the server then hosts something
    else than our model, and every other answer of it would be as worthless.
    """
    width, height, text = _header_and_text(png, model)
    try:
        said = _Text.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'text'}: {e['msg']}" for e in error.errors()[:5])
        raise Broken(f"model {model}: the answer's text chunk does not fit: {faults}") from error
    if said.model != model:
        raise Broken(f"model {model}: the answer is by {said.model!r}; check what the server hosts under that name")
    if (said.width, said.height) != (width, height):
        raise Broken(f"model {model}: a {width}x{height} mask calls itself {said.width}x{said.height}")
    return Localisation(
        png=png,
        model=ModelVersion(name=said.model, version=said.version),
        kind=said.kind,
        score=said.score,
        qes=said.qes,
        inliers=said.inliers,
        overlap=said.overlap,
        width=width,
        height=height,
        seconds=said.seconds,
        notes=said.notes,
        copies=said.copies,
    )


def read_refusal(text: bytes | str, *, model: str) -> Rejected | Broken | None:
    """The error that a handler wrote instead of a mask, `{"error": {"kind", "code", "message"}}`, or None.

    Never raises. A code that we do not know is Broken: server and client are then of different releases.
    """
    try:
        fault = _Refusal.model_validate_json(text).error
    except ValidationError:
        return None
    if fault.kind == "rejected" and fault.code in REJECTION_CODES:
        return Rejected(fault.code, fault.message)
    code = f" with unknown code {fault.code!r}" if fault.kind == "rejected" else ""
    return Broken(f"model {model}: the handler failed{code}: {fault.message}")


def _header_and_text(png: bytes, model: str) -> tuple[int, int, bytes]:
    """(width, height, JSON text) after a walk over every chunk; each is checked against its CRC."""
    if not png.startswith(SIGNATURE):
        raise Broken(f"model {model}: the answer is no PNG (it starts with {png[:8]!r})")
    view = memoryview(png)
    size: tuple[int, int] | None = None
    text: bytes | None = None
    kind = b""
    at = len(SIGNATURE)
    while kind != b"IEND":
        kind, body, at = _chunk(view, at, model)
        if size is None:
            size = _grey_size(kind, body, model)
        elif kind == b"tEXt" and bytes(body[: len(KEYWORD) + 1]) == KEYWORD + b"\x00":
            if text is not None or len(body) > TEXT_BYTES:
                raise Broken(f"model {model}: the answer has a second or an oversized {KEYWORD.decode()} chunk")
            text = bytes(body[len(KEYWORD) + 1 :])
    if size is None or text is None:
        raise Broken(f"model {model}: the answer has no tEXt chunk {KEYWORD.decode()}")
    return *size, text


def _chunk(view: memoryview, at: int, model: str) -> tuple[bytes, memoryview, int]:
    """(type, data, where the next one starts) of the chunk at `at`."""
    if at + 12 > len(view):
        raise Broken(f"model {model}: the answer's PNG ends at byte {len(view)}, before its end chunk")
    length, kind = struct.unpack_from(">I4s", view, at)
    end = at + 12 + length
    if end > len(view):
        raise Broken(f"model {model}: chunk {kind!r} at byte {at} is longer than the answer")
    if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", view, end - 4)[0]:
        raise Broken(f"model {model}: chunk {kind!r} at byte {at} fails its checksum")
    return kind, view[at + 8 : end - 4], end


def _grey_size(kind: bytes, body: memoryview, model: str) -> tuple[int, int]:
    """(width, height) from the header chunk of an 8-bit grey PNG."""
    if kind != b"IHDR" or len(body) != 13:
        raise Broken(f"model {model}: the answer's PNG starts with chunk {kind!r} instead of its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", body)
    if (depth, colour) != (8, 0) or not width or not height:
        raise Broken(
            f"model {model}: the mask is {width}x{height}, depth {depth}, colour type {colour}; want 8-bit grey"
        )
    return width, height
