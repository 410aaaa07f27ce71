"""Events without an erased picture: ids and decision stay, everything about the picture goes."""

from __future__ import annotations

from services.core.erasure import case_without, content_mark, masks_of, review_without_mask, verdict_without
from services.core.events import Decision, HardCaseFound, HardCaseReason, ReviewDecided
from tests.core.facts import NOW, ORIGINAL, UPLOAD, candidate, image, verdict

CASE = HardCaseFound(
    upload_id="the-upload",
    tenant="default",
    revision=0,
    reasons=(HardCaseReason.AUDIT,),
    priority=0.1,
    image=image(),
    mask_key="masks/two.png",
    candidate=candidate(),
    policy_version="test",
    found_at=NOW,
)
REVIEW = ReviewDecided(
    decision_id="d1",
    upload_id="the-upload",
    tenant="default",
    of_revision=0,
    moderator="m",
    decision=Decision.MANIPULATED,
    corrected_mask_key="masks/three.png",
    decided_at=NOW,
)


def test_a_verdict_on_the_picture_keeps_its_ids_and_decision_alone() -> None:
    before = verdict(candidate=candidate(), filename="me.jpg")
    after = verdict_without(before, UPLOAD)
    text = after.to_bytes().decode()
    assert (after.upload_id, after.decision, after.score) == (before.upload_id, before.decision, before.score)
    assert (after.image, after.mask, after.candidate, after.filename) == (None, None, None, None)
    assert after.reasons[0].code == "erased"
    assert UPLOAD not in text and ORIGINAL not in text and "masks/" not in text


def test_a_verdict_that_was_reached_with_the_picture_keeps_its_own() -> None:
    before = verdict(candidate=candidate())
    after = verdict_without(before, ORIGINAL)
    assert (after.image, after.mask, after.candidate) == (before.image, before.mask, None)
    assert after.reasons[0].code == "original_erased"
    assert ORIGINAL not in after.to_bytes().decode()


def test_erasing_again_or_another_picture_changes_nothing() -> None:
    once = verdict_without(verdict(candidate=candidate()), UPLOAD)
    assert verdict_without(once, UPLOAD) == once
    assert verdict_without(verdict(), "c" * 64) == verdict()


def test_cases_and_reviews_lose_what_they_say_of_the_picture() -> None:
    assert case_without(CASE, ORIGINAL).candidate is None
    assert case_without(CASE, "c" * 64) == CASE
    assert review_without_mask(REVIEW).corrected_mask_key is None


def test_masks_of_the_picture_are_found_and_those_of_others_are_not() -> None:
    assert masks_of(verdict(), UPLOAD) == {"masks/one.png"}
    assert masks_of(verdict(candidate=candidate()), ORIGINAL) == set()
    assert masks_of(verdict(mask=None), UPLOAD) == set()
    assert masks_of(CASE, UPLOAD) == {"masks/two.png"}
    assert masks_of(REVIEW, UPLOAD) == {"masks/three.png"}


def test_a_mark_is_no_sha256_of_the_picture() -> None:
    assert content_mark(UPLOAD) != UPLOAD
    assert content_mark(UPLOAD) == content_mark(UPLOAD) != content_mark(ORIGINAL)
