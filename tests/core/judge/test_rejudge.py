"""Whether other models change a verdict."""

from __future__ import annotations

import pytest

from services.core.events import Decision, ModelVersion, Path, Rejudging
from services.core.judge.again import first_reasons
from services.core.judge.late import revised as revised_late
from services.core.judge.rejudge import TOLERANCE, cause, revised, served_by_others, why_not
from services.core.judge.route import Alone
from tests.clients.examples import PAIR, SINGLE, verdict
from tests.core.judge.test_late import LATE

NEW = ModelVersion(name="unconstrained", version="0.2.0+cccccccccccc")
ASKED = Rejudging(run=1, revision=0, models=(PAIR, NEW))


@pytest.mark.parametrize(
    ("path", "revision", "reason"),
    [
        (Path.UNCONSTRAINED, 0, None),
        (Path.REUSED, 0, None),
        (Path.REJECTED, 0, "rejected"),
        (Path.REVIEWED, 0, "reviewed"),
        (Path.REVIEWED, 1, "reviewed"),  # a moderator decided after it had been asked for
        (Path.CONSTRAINED_SPG, 1, "superseded"),
    ],
)
def test_a_verdict_is_reached_again_or_stays_for_a_reason(path: Path, revision: int, reason: str | None) -> None:
    assert why_not(verdict(path=path, revision=revision), ASKED) == reason


def test_models_that_were_promoted_or_rolled_back_since_are_others() -> None:
    assert not served_by_others(ASKED, (NEW, PAIR))
    assert served_by_others(ASKED, (PAIR, SINGLE))


def test_the_cause_is_the_verdict_and_the_models_and_not_who_asked() -> None:
    assert cause(ASKED) == cause(ASKED.model_copy(update={"run": 2, "models": (NEW, PAIR)}))
    assert cause(ASKED) != cause(ASKED.model_copy(update={"revision": 1}))
    assert cause(ASKED) != cause(ASKED.model_copy(update={"models": (PAIR, SINGLE)}))


def test_the_revised_verdict_says_once_by_whom_it_was_judged_again() -> None:
    before = verdict(decision=Decision.INCONCLUSIVE)
    once = revised(before, verdict(models=(NEW,)))
    assert once is not None
    assert [reason.code for reason in once.reasons] == ["differs_from_original", "new_models"]
    assert "unconstrained 0.2.0+cccccccccccc" in once.reasons[-1].text
    assert "it was inconclusive" in once.reasons[-1].text
    late = revised_late(once, LATE, Alone())
    assert [reason.code for reason in late.reasons] == ["differs_from_original", "late_original"]
    assert first_reasons(once) == before.reasons


@pytest.mark.parametrize(("change", "new"), [(TOLERANCE / 2, False), (TOLERANCE * 2, True), (-TOLERANCE * 2, True)])
def test_a_score_that_is_nearly_the_same_is_nothing_new(change: float, new: bool) -> None:
    before = verdict()
    assert before.score is not None
    fresh = verdict(models=(NEW,)).model_copy(update={"score": before.score + change})
    assert (revised(before, fresh) is not None) == new


def test_another_decision_or_another_original_is_new_whatever_the_score() -> None:
    assert revised(verdict(), verdict(decision=Decision.NO_EVIDENCE)) is not None
    assert revised(verdict(), verdict(against="another")) is not None
    assert revised(verdict(), verdict(against=None)) is not None
