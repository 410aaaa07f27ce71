"""A challenger's word beside a verdict: decided by the same policy, compared by what both would publish."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import Broken
from services.core.events import Decision, Mask, ModelVersion, Path, VerdictReached
from services.core.judge.mask import describe
from services.core.judge.shadow import overlap, shadow
from services.core.judge.verdict import Finding
from services.core.policy import DEFAULT_POLICY
from tests.clients.examples import PAIR, SINGLE, verdict


def marked(columns: slice) -> Mask:
    """A mask of 10 x 10 pixels with some columns flagged."""
    grey = np.zeros((10, 10), np.uint8)
    grey[:, columns] = 255
    return describe(grey, threshold=0.5, qes=1.0, object_key="m")


def alone(mask: Mask | None, decision: Decision) -> VerdictReached:
    made = verdict(path=Path.UNCONSTRAINED, against=None, models=(SINGLE,), decision=decision)
    return made.model_copy(update={"mask": mask, "score": 0.9})


def finding(score: float, columns: slice) -> Finding:
    return Finding(ModelVersion(name="unconstrained", version="2.0"), score, marked(columns))


def test_both_words_are_kept_with_what_they_share() -> None:
    said = shadow(alone(marked(slice(0, 4)), Decision.MANIPULATED), finding(0.99, slice(2, 6)), 0.5, DEFAULT_POLICY)
    assert (said.champion, said.challenger) == (SINGLE.version, "2.0")
    assert (said.champion_decision, said.decision) == ("manipulated", "manipulated")
    assert (said.champion_score, said.score, said.seconds) == (0.9, 0.99, 0.5)
    assert said.iou == pytest.approx(2 / 6)


def test_a_challenger_that_finds_no_evidence_marks_nothing() -> None:
    said = shadow(alone(marked(slice(0, 4)), Decision.MANIPULATED), finding(0.1, slice(0, 4)), 0.5, DEFAULT_POLICY)
    assert (said.decision, said.iou) == ("no_evidence", 0.0)


def test_nothing_agrees_with_nothing() -> None:
    empty, some = marked(slice(0, 0)), marked(slice(0, 1))
    assert [overlap(None, None), overlap(None, empty), overlap(empty, empty)] == [1.0] * 3
    assert [overlap(None, some), overlap(some, empty)] == [0.0] * 2


def test_a_verdict_of_two_models_is_no_champions_word() -> None:
    both = alone(None, Decision.NO_EVIDENCE).model_copy(update={"models": (PAIR, SINGLE)})
    with pytest.raises(Broken, match="not the single-image model's alone"):
        shadow(both, finding(0.1, slice(0, 1)), 0.5, DEFAULT_POLICY)
