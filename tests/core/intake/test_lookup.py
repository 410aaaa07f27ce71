"""Lookup: which candidates geometry confirms, and in what order they come."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.core.alignment import MIN_INLIERS, mapped
from services.core.errors import Rejected
from services.core.events import Candidate
from services.core.intake.keys import image_key
from services.core.intake.lookup import rank, verify
from services.core.pixels import open_image

SAMPLES = Path(__file__).parents[3] / "samples"
ORIGINALS = {path.stem: path.read_bytes() for path in sorted((SAMPLES / "originals").glob("*.jpg"))}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_verification_confirms_the_original_and_turns_others_away() -> None:
    upload = (SAMPLES / "uploads" / "windmill-giraffe.jpg").read_bytes()
    windmill, lake, broken = verify(upload, [ORIGINALS["windmill"], ORIGINALS["lake"], b"no picture"])
    assert windmill is not None
    assert windmill.inliers > 10 * MIN_INLIERS
    assert windmill.homography == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert windmill.overlap == pytest.approx(1.0)
    assert lake is None
    assert broken is None


@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored and turned"])
@pytest.mark.parametrize("quarters", range(4))
def test_verification_finds_an_original_mirrored_and_turned(quarters: int, mirrored: bool) -> None:
    """The windmill, with a giraffe pasted in: what lay at a place of the original lies where the map says.

    To two pixels, which are one where features are sought; the pair path refines the map.
    """
    forged = open_image((SAMPLES / "uploads" / "windmill-giraffe.jpg").read_bytes()).rgb
    height, width = forged.shape[:2]
    turned = np.rot90(forged[:, ::-1] if mirrored else forged, quarters)
    found, stranger = verify(saved(turned), [ORIGINALS["windmill"], ORIGINALS["lake"]])
    assert stranger is None
    assert found is not None
    assert found.inliers > 10 * MIN_INLIERS
    assert found.overlap == pytest.approx(1.0, abs=0.01)
    matrix = np.array(found.homography).reshape(3, 3)
    assert (np.linalg.det(matrix[:2, :2]) < 0) == mirrored
    numbered = np.arange(height * width).reshape(height, width)
    numbers = np.rot90(numbered[:, ::-1] if mirrored else numbered, quarters)
    places = np.array([[40.0, 30.0], [width - 60.0, 80.0], [width / 2, height - 50.0]]).round()
    for (x, y), (u, v) in zip(places, mapped(matrix, places), strict=True):
        row, column = np.argwhere(numbers == numbered[int(y), int(x)])[0]
        assert np.hypot(u - column, v - row) < 2.0


def test_a_symmetric_picture_is_laid_the_way_that_more_of_it_agrees() -> None:
    """Half a picture beside its mirror image, but for a corner."""
    half = open_image(ORIGINALS["lighthouse"]).rgb[:, :400]
    picture = np.concatenate([half, half[:, ::-1]], axis=1)
    picture[-200:, -300:] = open_image(ORIGINALS["sign"]).rgb[100:300, 100:400]
    for upload, negative in ((picture, False), (picture[:, ::-1], True)):
        (found,) = verify(saved(upload), [saved(picture)])
        assert found is not None
        assert (found.homography[0] < 0) == negative


def saved(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def test_verification_of_an_upload_that_is_no_picture_is_the_uploads_fault() -> None:
    with pytest.raises(Rejected):
        verify(b"no picture", [ORIGINALS["lake"]])


def test_verifying_against_nothing_finds_nothing() -> None:
    assert verify(ORIGINALS["lake"], []) == ()


def candidate(name: str, **changes: Any) -> Candidate:
    digest = sha256(name.encode()).hexdigest()
    values = {
        "original_id": name,
        "sha256": digest,
        "object_key": image_key(digest),
        "trusted": False,
        "source": "upload",
        "registered_at": NOON,
        "distance": 20,
        "inliers": 200,
        "overlap": 1.0,
        "homography": (1.0, 0, 0, 0, 1, 0, 0, 0, 1),
    }
    return Candidate.model_validate({**values, **changes})


UPLOAD = sha256(b"the upload").hexdigest()


def order(*candidates: Candidate) -> list[str]:
    return [each.original_id for each in rank(candidates, upload_sha256=UPLOAD)]


def test_trusted_comes_before_old_and_old_before_near() -> None:
    old = candidate("old", registered_at=NOON - timedelta(days=9), distance=60)
    trusted = candidate("trusted", trusted=True, distance=80)
    near = candidate("near", distance=2)
    assert order(near, old, trusted) == ["trusted", "old", "near"]


def test_what_covers_most_of_the_upload_comes_before_what_covers_a_corner() -> None:
    corner = candidate("corner", overlap=0.2, trusted=True, registered_at=NOON - timedelta(days=9))
    assert order(corner, candidate("whole")) == ["whole", "corner"]


def test_the_uploads_own_bytes_are_evidence_only_where_somebody_vouches_for_them() -> None:
    same = candidate("same", sha256=UPLOAD, distance=0)
    library = candidate("library", sha256=UPLOAD, distance=0, trusted=True, registered_at=NOON + timedelta(days=1))
    trusted = candidate("trusted", trusted=True)
    assert order(same) == []
    assert order(trusted, same, library) == ["library", "trusted"]


def test_a_candidate_without_a_homography_is_none() -> None:
    assert order(candidate("unverified", homography=None, inliers=0, overlap=0.0)) == []


def test_the_order_does_not_depend_on_the_order_of_asking() -> None:
    candidates = [candidate(str(n), distance=n % 3, trusted=n % 2 == 0) for n in range(12)]
    assert order(*candidates) == order(*reversed(candidates))
