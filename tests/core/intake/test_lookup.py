"""Lookup: which candidates geometry confirms, and in what order they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.core.alignment import MIN_INLIERS
from services.core.errors import Rejected
from services.core.events import Candidate
from services.core.intake.keys import image_key
from services.core.intake.lookup import rank, verify

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
