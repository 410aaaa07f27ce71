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

import numpy as np
import pdqhash
import pytest
from PIL import Image, ImageEnhance

from services.core.errors import Broken, Rejected
from services.core.events import Fingerprint
from services.core.intake.examine import Examined, Limits, examine
from services.core.intake.fingerprint import MAX_DISTANCE, SIDE, distance, fingerprint, orientations
from services.core.intake.guard import admit
from services.core.intake.keys import image_key
from services.core.pixels import Picture, open_image

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


def turned(picture: np.ndarray) -> list[np.ndarray]:
    """A picture [H,W,3] in the orientations that `orientations` promises, in its order."""
    axes = (picture, picture.swapaxes(0, 1))
    return [flip for each in axes for flip in (each, each[:, ::-1], each[::-1], each[::-1, ::-1])]


def hash_of(rgb: np.ndarray) -> str:
    return fingerprint(Picture(np.ascontiguousarray(rgb), rgb.shape[1], rgb.shape[0], "PNG", None, ())).pdq


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_a_hash_says_what_the_picture_turned_and_mirrored_would_hash_to(name: str) -> None:
    picture = open_image(ORIGINALS[name], max_side=SIDE).rgb
    told = orientations(hash_of(picture))
    seen = [hash_of(each) for each in turned(picture)]
    apart = np.array([[distance(first, second) for second in seen] for first in told])
    assert apart.diagonal().max() <= 40
    assert apart[~np.eye(8, dtype=bool)].min() > MAX_DISTANCE
    assert told[0] == seen[0]


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_the_orientations_are_those_of_pdqs_authors_but_for_the_median(name: str) -> None:
    picture = open_image(ORIGINALS[name], max_side=SIDE).rgb
    theirs, _ = pdqhash.compute_dihedral(picture)  # as it is, 90, 180, 270, upside down, left to right, swapped, other
    theirs = [np.packbits(bits.astype(np.uint8)).tobytes().hex() for bits in theirs]
    ours = orientations(hash_of(picture))
    for index, other in enumerate((0, 5, 4, 2, 6, 3, 1, 7)):
        assert distance(ours[index], theirs[other]) <= 20


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
    ways = orientations(own)
    far = [distance(way, print_of(other).pdq) for other in ORIGINALS if other != name for way in ways]
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
