"""Guard and fingerprint: what is let in, and what it looks like."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from services.core.errors import Broken, Rejected
from services.core.events import Fingerprint
from services.core.intake.examine import Examined, Limits, examine
from services.core.intake.fingerprint import MAX_DISTANCE, distance
from services.core.intake.guard import admit
from services.core.intake.keys import image_key

SAMPLES = Path(__file__).parents[3] / "samples"
ORIGINALS = {path.stem: path.read_bytes() for path in sorted((SAMPLES / "originals").glob("*.jpg"))}


@cache
def print_of(name: str) -> Fingerprint:
    return examine(ORIGINALS[name], Limits()).fingerprint


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def code(data: bytes, limits: Limits) -> str:
    with pytest.raises(Rejected) as caught:
        examine(data, limits)
    return caught.value.code


# -- guard --------------------------------------------------------------------------------------------------------


def test_the_byte_limit_is_inclusive_and_comes_before_any_look_at_the_bytes() -> None:
    data = ORIGINALS["lake"]
    assert admit(data, Limits(max_bytes=len(data))).width == 1024
    assert code(data, Limits(max_bytes=len(data) - 1)) == "too_large"
    assert code(b"x" * 11, Limits(max_bytes=10)) == "too_large"


def test_the_pixel_limit_is_the_settings() -> None:
    assert code(ORIGINALS["lake"], Limits(max_pixels=500_000)) == "too_many_pixels"


def test_what_is_let_in_is_described_by_its_content() -> None:
    examined = examine(saved(Image.new("RGB", (640, 480), "navy"), "WEBP"), Limits())
    assert (examined.width, examined.height, examined.format) == (640, 480, "WEBP")
    assert examined.media_type == "image/webp"


def test_the_outcomes_of_examining_cross_a_process_border_whole() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        good = pool.submit(examine, ORIGINALS["pier"], Limits()).result()
        bad = pool.submit(examine, ORIGINALS["pier"][:9000], Limits()).exception()
    assert good == examine(ORIGINALS["pier"], Limits())
    assert isinstance(bad, Rejected)
    assert bad.code == "truncated"
    assert isinstance(pickle.loads(pickle.dumps(good)), Examined)


# -- fingerprint --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_half_of_a_hashs_bits_are_set_because_it_splits_at_the_median(name: str) -> None:
    assert int(print_of(name).pdq, 16).bit_count() == 128
    assert print_of(name).pdq_quality >= 50


def test_a_picture_of_nothing_has_a_hash_of_no_quality() -> None:
    assert examine(saved(Image.new("RGB", (300, 300), "grey"), "PNG"), Limits()).fingerprint.pdq_quality == 0


def test_distance_counts_the_bits_that_differ() -> None:
    assert distance("0" * 64, "f" * 64) == 256
    assert distance("0" * 63 + "1", "0" * 63 + "8") == 2


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_copies_stay_near_and_other_pictures_far(name: str) -> None:
    image = Image.open(io.BytesIO(ORIGINALS[name]))
    copies = {
        "recompressed": saved(image, quality=25),
        "halved": saved(image.resize((image.width // 2, image.height // 2)), "PNG"),
        "enlarged": saved(image.resize((image.width * 2, image.height * 2)), quality=80),
        "brightened": saved(ImageEnhance.Brightness(image).enhance(1.2), quality=90),
        "grey": saved(image.convert("L"), quality=90),
        "webp": saved(image, "WEBP", quality=50),
    }
    own = print_of(name).pdq
    far = [distance(own, print_of(other).pdq) for other in ORIGINALS if other != name]
    for what, data in copies.items():
        assert distance(own, examine(data, Limits()).fingerprint.pdq) <= 31, what
    assert min(far) > MAX_DISTANCE


def test_the_quantisation_tables_tell_a_files_history() -> None:
    tables = examine(ORIGINALS["lake"], Limits()).fingerprint.jpeg_quantisation
    assert tables is not None
    assert [len(table) for table in tables] == [64, 64]
    assert examine(saved(Image.new("RGB", (64, 64)), "PNG"), Limits()).fingerprint.jpeg_quantisation is None


# -- keys ---------------------------------------------------------------------------------------------------------


def test_an_image_lies_under_its_hash() -> None:
    digest = sha256(b"x").hexdigest()
    assert image_key(digest) == f"images/sha256/{digest[:2]}/{digest}"


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65])
def test_what_is_no_hash_gets_no_key(wrong: str) -> None:
    with pytest.raises(Broken):
        image_key(wrong)
