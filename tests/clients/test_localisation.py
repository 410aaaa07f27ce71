"""The answer's PNG: what is read from it, and that nothing else passes for it."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.clients.localisation import read_localisation, read_refusal
from services.core.errors import Broken, Rejected
from services.core.events import ModelVersion
from tests.clients.tiny_model import localise, photo, png_of

SAID = {"model": "unconstrained", "version": "1.0.0+abc", "score": 0.25, "qes": 0.5, "seconds": 0.1}
GREY = Image.new("L", (7, 5), 128)


def test_a_mask_tells_its_model_its_size_and_its_numbers() -> None:
    png = localise("constrained", photo(96, 64), photo(96, 64))
    found = read_localisation(png, model="constrained")
    assert found.model == ModelVersion(name="constrained", version="1.0.0+aaaaaaaaaaaa")
    assert (found.width, found.height) == (96, 64)
    assert (found.kind, found.score, found.qes, found.inliers, found.overlap) == ("spg", 0.75, 0.5, 120, 0.97)
    assert found.png == png
    assert "PNG" not in repr(found), "an answer that is logged must not print its mask"
    assert Image.open(io.BytesIO(found.png)).size == (96, 64)


def test_a_mask_without_an_original_has_no_kind() -> None:
    found = read_localisation(png_of(GREY, SAID), model="unconstrained")
    assert (found.kind, found.inliers, found.overlap) == (None, None, None)


def test_notes_are_read_even_those_of_a_newer_server_and_may_be_left_out() -> None:
    said = SAID | {"notes": ["no_jpeg_history", "taken_under_water"]}
    assert read_localisation(png_of(GREY, said), model="unconstrained").notes == tuple(said["notes"])
    assert read_localisation(png_of(GREY, SAID), model="unconstrained").notes == ()


@pytest.mark.parametrize(
    ("png", "why"),
    [
        (b"", "no PNG"),
        (b"<html>proxy error</html>", "no PNG"),
        (photo(), "no PNG"),
        (png_of(GREY, SAID)[:-20], "longer than the answer"),
        (png_of(GREY, SAID)[:-12], "before its end chunk"),
        (png_of(GREY, SAID, keyword="comment"), "no tEXt chunk"),
        (png_of(Image.new("RGB", (7, 5)), SAID), "want 8-bit grey"),
        (png_of(GREY, {**SAID, "model": "constrained"}), "is by 'constrained'"),
        (png_of(GREY, {**SAID, "width": 8}), "calls itself 8x5"),
        (png_of(GREY, {**SAID, "score": 1.5}), "score"),
        (png_of(GREY, {**SAID, "score": float("nan")}), "score"),
        (png_of(GREY, {**SAID, "kind": "weird"}), "kind"),
        (png_of(GREY, {**SAID, "note": "x" * 20_000}), "oversized"),
        (png_of(GREY, {**SAID, "notes": ["<b>No slug</b>"]}), "notes"),
        (png_of(GREY, {**SAID, "notes": ["many"] * 33}), "notes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "png",
)
def test_an_answer_that_our_handlers_never_write_is_broken(png: bytes, why: str) -> None:
    with pytest.raises(Broken, match=why):
        read_localisation(png, model="unconstrained")


def test_a_flipped_bit_anywhere_after_the_signature_is_noticed() -> None:
    png = png_of(GREY, SAID)
    for at in range(8, len(png)):
        spoiled = bytearray(png)
        spoiled[at] ^= 0x10
        with pytest.raises(Broken):
            read_localisation(bytes(spoiled), model="unconstrained")


@given(st.binary(max_size=200))
def test_no_bytes_after_a_signature_raise_anything_but_broken(junk: bytes) -> None:
    with pytest.raises(Broken):
        read_localisation(b"\x89PNG\r\n\x1a\n" + junk, model="unconstrained")


def test_a_length_beyond_the_answer_reserves_no_memory() -> None:
    header = struct.pack(">I4s", 0xFFFFFFFF, b"IHDR") + b"\x00" * 13
    with pytest.raises(Broken, match="longer than the answer"):
        read_localisation(b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", zlib.crc32(b"")), model="unconstrained")


def test_a_handlers_refusal_is_the_error_that_it_names() -> None:
    rejected = read_refusal(b'{"error":{"kind":"rejected","code":"truncated","message":"ends early"}}', model="m")
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.message) == ("truncated", "ends early")
    broken = read_refusal('{"error":{"kind":"broken","message":"KeyError"}}', model="m")
    assert isinstance(broken, Broken)
    unknown = read_refusal(b'{"error":{"kind":"rejected","code":"ugly","message":"x"}}', model="m")
    assert isinstance(unknown, Broken)
    assert "unknown code 'ugly'" in str(unknown)


@pytest.mark.parametrize("text", [b"", b"null", b"<html>", b'{"code":503,"message":"Prediction failed"}', b"\xff"])
def test_any_other_text_is_no_refusal(text: bytes) -> None:
    assert read_refusal(text, model="m") is None
