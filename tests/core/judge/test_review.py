from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import Rejected
from services.core.events import Decision, Path, Reason, ReviewDecided
from services.core.judge.review import drawn, overturned, revised
from services.core.pixels import encode_png
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


def test_a_mask_that_the_moderator_drew_takes_the_place_of_the_machines() -> None:
    before = verdict()
    assert before.image is not None
    drawing = np.zeros((before.image.height, before.image.width), np.uint8)
    drawing[: before.image.height // 2] = 255
    mask = drawn(encode_png(drawing), before.image, object_key="masks/hand.png", threshold=0.5)
    after = revised(before, review(Decision.MANIPULATED), now=NOW, mask=mask)
    assert after.mask is not None
    assert (after.mask.object_key, after.mask.area) == ("masks/hand.png", 0.5)
    assert after.mask.qes == pytest.approx(1.0)
    assert after.score == before.score


def test_what_is_no_mask_is_refused() -> None:
    image = verdict().image
    assert image is not None
    with pytest.raises(Rejected, match="hand"):
        drawn(b"no picture", image, object_key="masks/hand.png", threshold=0.5)


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
