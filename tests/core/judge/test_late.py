"""Whether a late original changes a verdict."""

from __future__ import annotations

import pytest

from services.core.events import Candidate, LateOriginal, Path
from services.core.judge.again import first_reasons
from services.core.judge.late import cause, revised, why_not
from services.core.judge.route import Alone, Compare, Identical, Route
from tests.clients.examples import candidate, sha256_of, verdict

LATE = LateOriginal(original_id="id-original", sha256=sha256_of("original"))
EARLIER_UPLOAD: Candidate = candidate("original").model_copy(update={"trusted": False})


@pytest.mark.parametrize("way", [Compare(candidate("original"), both=False), Identical(candidate("original"))])
def test_a_verdict_without_that_original_is_reached_again(way: Route) -> None:
    assert why_not(verdict(path=Path.UNCONSTRAINED, against=None), way) is None
    assert why_not(verdict(against="another, worse original"), way) is None


def test_a_verdict_against_the_same_picture_as_an_untrusted_upload_is_reached_again() -> None:
    earlier = verdict().model_copy(update={"candidate": EARLIER_UPLOAD})
    assert why_not(earlier, Compare(candidate("original"), both=False)) is None


@pytest.mark.parametrize(
    ("path", "way", "reason"),
    [
        (Path.REJECTED, Compare(candidate("original"), both=False), "rejected"),
        (Path.REVIEWED, Compare(candidate("original"), both=False), "reviewed"),
        (Path.UNCONSTRAINED, Alone(), "not_confirmed"),
        (Path.UNCONSTRAINED, Compare(EARLIER_UPLOAD, both=True), "not_confirmed"),
        (Path.CONSTRAINED_SPG, Compare(candidate("original"), both=False), "not_better"),
    ],
)
def test_a_verdict_stays_for_a_reason(path: Path, way: Route, reason: str) -> None:
    against = "original" if path is Path.CONSTRAINED_SPG else None
    assert why_not(verdict(path=path, against=against), way) == reason


def test_the_revised_verdict_says_why_once_and_the_first_reasons_stay() -> None:
    way = Compare(candidate("original"), both=False)
    once = revised(verdict(), LATE, way)
    assert [reason.code for reason in once.reasons] == ["differs_from_original", "late_original"]
    assert "id-original" in once.reasons[-1].text
    assert revised(once, LATE, way).reasons == once.reasons
    assert first_reasons(once) == verdict().reasons


def test_the_cause_goes_by_content() -> None:
    assert cause(LATE) == cause(LATE.model_copy(update={"original_id": "another name of the same picture"}))
    assert cause(LATE) != cause(LateOriginal(original_id="id-original", sha256=sha256_of("another")))
