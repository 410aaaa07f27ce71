"""Pairs annotated for a fit: the edit is marked, and what is not decisive or not a pair is not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.core.errors import Rejected
from services.core.pixels import encode_png, open_image
from trainer.annotation import PairAnnotator

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def annotator() -> PairAnnotator:
    return PairAnnotator(flips=False, side=512)


@pytest.fixture(scope="module")
def original() -> bytes:
    return encode_png(open_image(_photo(0).read_bytes(), max_side=320).rgb)


def test_an_edit_is_marked_and_kept(annotator: PairAnnotator, original: bytes) -> None:
    picture = open_image(original).rgb.copy()
    picture[60:130, 80:170] = picture[60:130, 80:170, ::-1] // 2 + 90
    found = annotator.annotate(encode_png(picture), original)
    assert (found.kind, found.kept, found.annotator) == ("spg", True, annotator.annotator)
    truth = np.zeros(found.mask.shape, bool)
    truth[60:130, 80:170] = True
    assert (found.mask > 127)[truth].mean() > 0.8
    assert (found.mask > 127)[~truth].mean() < 0.05


def test_a_plain_copy_has_nothing_to_keep(annotator: PairAnnotator, original: bytes) -> None:
    assert not annotator.annotate(original, original).kept


def test_two_pictures_without_anything_in_common_are_not_kept(annotator: PairAnnotator, original: bytes) -> None:
    found = annotator.annotate(_photo(1).read_bytes(), original)
    assert not found.kept


def test_what_is_no_picture_is_refused(annotator: PairAnnotator, original: bytes) -> None:
    with pytest.raises(Rejected):
        annotator.annotate(b"no picture", original)


def _photo(place: int) -> Path:
    return sorted((SAMPLES / "originals").glob("*.jpg"))[place]
