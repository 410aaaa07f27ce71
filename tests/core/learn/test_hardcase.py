from __future__ import annotations

import pytest

from services.core.events import Decision, HardCaseReason, Path
from services.core.learn.hardcase import PRIORITY, hard_case, reasons
from services.core.policy import Policy
from tests.core.facts import NOW, mask, verdict

POLICY = Policy(audit_share=0.0)


def test_a_clear_verdict_teaches_nothing() -> None:
    assert hard_case(verdict(), POLICY, now=NOW) is None


def test_a_flagged_but_smeared_mask_is_a_hard_case() -> None:
    assert reasons(verdict(mask=mask(qes=0.3)), POLICY) == (HardCaseReason.LOW_QES,)
    assert reasons(verdict(mask=mask(qes=0.3, area=0.0)), POLICY) == ()


def test_paths_that_disagree_are_a_hard_case() -> None:
    split = verdict(path=Path.CONSTRAINED_SPG, score=0.9, second_score=0.1)
    agreed = verdict(path=Path.CONSTRAINED_SPG, score=0.9, second_score=0.95)
    assert reasons(split, POLICY) == (HardCaseReason.PATHS_DISAGREE,)
    assert reasons(agreed, POLICY) == ()


def test_a_doubtful_verdict_is_a_hard_case() -> None:
    assert reasons(verdict(decision=Decision.INCONCLUSIVE), POLICY) == (HardCaseReason.DOUBTFUL_SCORE,)


def test_the_audit_share_takes_whom_it_wants_and_always_the_same() -> None:
    everybody = Policy(audit_share=1.0)
    assert reasons(verdict(), everybody) == (HardCaseReason.AUDIT,)
    assert reasons(verdict(), everybody) == reasons(verdict(), everybody)


@pytest.mark.parametrize("path", [Path.REUSED, Path.IDENTICAL])
def test_what_says_nothing_new_about_the_models_is_no_hard_case(path: Path) -> None:
    assert reasons(verdict(path=path, decision=Decision.INCONCLUSIVE), Policy(audit_share=1.0)) == ()


def test_an_overturned_verdict_is_the_most_urgent_case() -> None:
    case = hard_case(verdict(), POLICY, now=NOW, overturned=True)
    assert case is not None
    assert case.reasons == (HardCaseReason.MODERATOR_OVERTURNED,)
    assert case.priority == max(PRIORITY.values())
    assert case.key() == verdict().image.sha256  # type: ignore[union-attr]
