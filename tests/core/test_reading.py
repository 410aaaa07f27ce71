"""What verdicts say to people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.core.events import Decision, Path, Reason, VerdictReached
from services.core.policy import DEFAULT_POLICY
from services.core.reading import qes_in_words, score_in_words, thresholds

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def verdict(score: float | None, path: Path, policy_version: str = DEFAULT_POLICY.version) -> VerdictReached:
    return VerdictReached(
        tenant="t", upload_id="u", decision=Decision.REJECTED if path is Path.REJECTED else Decision.INCONCLUSIVE,
        path=path, score=score, reasons=(Reason(code="doubtful", text="Doubtful."),), policy_version=policy_version,
        uploaded_at=NOON, judged_at=NOON,
    )  # fmt: skip


def test_the_lines_are_those_of_the_path_that_gave_the_score() -> None:
    pair = thresholds(verdict(0.6, Path.CONSTRAINED_SDG), DEFAULT_POLICY)
    alone = thresholds(verdict(0.6, Path.UNCONSTRAINED), DEFAULT_POLICY)
    assert pair is not None and alone is not None
    assert pair.manipulated_at == DEFAULT_POLICY.constrained.manipulated_at
    assert alone.manipulated_at == DEFAULT_POLICY.unconstrained.manipulated_at
    assert thresholds(verdict(None, Path.REJECTED), DEFAULT_POLICY) is None


def test_lines_of_another_policy_are_said_to_be() -> None:
    same = thresholds(verdict(0.6, Path.UNCONSTRAINED), DEFAULT_POLICY)
    other = thresholds(verdict(0.6, Path.UNCONSTRAINED, "older-0123456789"), DEFAULT_POLICY)
    assert same is not None and same.same_policy
    assert other is not None and not other.same_policy


@pytest.mark.parametrize(
    ("score", "words"),
    [(0.93, "the policy says manipulated"), (0.6, "asks a person"), (0.1, "no proof of authenticity")],
)
def test_a_score_says_how_many_of_a_hundred_and_what_follows(score: float, words: str) -> None:
    judged = verdict(score, Path.CONSTRAINED_SPG)
    lines = thresholds(judged, DEFAULT_POLICY)
    assert lines is not None
    said = score_in_words(judged, lines)
    assert f"about {score * 100:.0f} are manipulated" in said
    assert words in said


def test_a_mask_of_low_quality_is_called_doubtful() -> None:
    assert "decisive" in qes_in_words(0.9, 0.5)
    assert "doubtful" in qes_in_words(0.3, 0.5)
