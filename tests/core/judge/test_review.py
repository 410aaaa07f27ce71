from __future__ import annotations

from services.core.events import Decision, Path, Reason, ReviewDecided
from services.core.judge.review import overturned, revised
from tests.core.facts import NOW, verdict


def review(decision: Decision) -> ReviewDecided:
    return ReviewDecided(
        decision_id="d1",
        upload_id="the-upload",
        tenant="default",
        of_revision=0,
        moderator="m",
        decision=decision,
        decided_at=NOW,
    )


def test_a_moderators_word_is_the_next_revision_and_keeps_the_evidence() -> None:
    before = verdict()
    after = revised(before, review(Decision.NO_EVIDENCE), now=NOW)
    assert (after.revision, after.decision, after.path) == (1, Decision.NO_EVIDENCE, Path.REVIEWED)
    assert (after.score, after.mask) == (before.score, before.mask)
    assert after.reasons[0].code == "moderator_decided"


def test_a_rejected_upload_stays_rejected() -> None:
    refused = verdict(
        decision=Decision.REJECTED, path=Path.REJECTED, image=None, mask=None, score=None,
        reasons=(Reason(code="corrupt", text="Corrupt."),),
    )  # fmt: skip
    assert revised(refused, review(Decision.NO_EVIDENCE), now=NOW) is refused


def test_only_a_contradicted_decision_is_overturned() -> None:
    assert overturned(verdict(), review(Decision.NO_EVIDENCE))
    assert not overturned(verdict(), review(Decision.MANIPULATED))
    assert not overturned(verdict(decision=Decision.INCONCLUSIVE), review(Decision.NO_EVIDENCE))


def test_a_mask_that_a_moderator_drew_overturns_the_models() -> None:
    drawn = review(Decision.MANIPULATED).model_copy(update={"corrected_mask_key": "masks/drawn.png"})
    assert overturned(verdict(), drawn)
