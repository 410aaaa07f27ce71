"""What a moderator may say, what becomes of two who decide the same case, and how agreement is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import ReviewDecided
from services.core.pixels import encode_png
from services.core.policy import DEFAULT_POLICY
from services.core.review.decisions import Part, Word, chosen_of_two, event, fault, part_of
from services.core.review.mask import Unfit, drawn_mask
from services.core.review.quality import Answer, Exposure, agreement, by_pair, due
from tests.clients.examples import NOON

RULES = DEFAULT_POLICY.review
DRAWN = Word("manipulated", ("content_added",), mask_key="masks/a.png", mask_of="a" * 64)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        (DRAWN, None),
        (Word("no_evidence"), None),
        (Word("inconclusive", ("too_poor",), "blurred"), None),
        (Word("manipulated"), "needs a reason code"),
        (Word("no_evidence", ("content_added",)), "does not go with"),
        (Word("manipulated", ("made_up",)), "no reason code"),
        (Word("manipulated", ("content_added", "content_added")), "twice"),
        (Word("no_evidence", mask_key="masks/a.png"), "manipulated alone"),
    ],
)
def test_a_decision_must_fit_the_policy(word: Word, why: str | None) -> None:
    found = fault(word, RULES)
    assert found is None if why is None else found is not None and why in found


def test_the_same_decision_of_an_upload_has_the_same_id_and_a_mask_only_on_its_own_picture() -> None:
    def of(upload_id: str, sha256: str) -> ReviewDecided:
        return event(
            DRAWN, "d-1", moderator="ann", tenant="acme", upload_id=upload_id, sha256=sha256, of_revision=2,
            decided_at=NOON,
        )  # fmt: skip

    one, same, other = of("u-1", "a" * 64), of("u-1", "a" * 64), of("u-2", "b" * 64)
    assert one == same
    assert one.decision_id != other.decision_id
    assert [each.corrected_mask_key for each in (one, other)] == ["masks/a.png", None]


def test_of_two_who_agree_the_first_is_published_unless_only_the_second_drew() -> None:
    plain = Word("manipulated", ("content_added",))
    assert chosen_of_two(plain, plain) == "first"
    assert chosen_of_two(plain, DRAWN) == "second"
    assert chosen_of_two(DRAWN, DRAWN) == "first"
    assert chosen_of_two(plain, Word("no_evidence")) is None


@pytest.mark.parametrize(
    ("honeypot", "escalated", "once", "share", "part"),
    [
        (False, False, False, 0.0, "single"),
        (False, False, False, 1.0, "first"),
        (False, False, True, 1.0, "second"),
        (False, True, True, 1.0, "final"),
        (True, True, False, 1.0, "honeypot"),
    ],
)
def test_what_a_decision_is_for(honeypot: bool, escalated: bool, once: bool, share: float, part: Part) -> None:
    found = part_of("case", honeypot=honeypot, escalated=escalated, decided_once=once, second_share=share)
    assert found == part


# -- masks -----------------------------------------------------------------------------------------------------------


def test_a_drawn_mask_is_written_anew_with_its_pixels_and_nothing_else() -> None:
    grey = np.zeros((4, 5), np.uint8)
    grey[1, 2] = 255
    sent = encode_png(grey, {"comment": "<script>"})
    drawn = drawn_mask(sent, width=5, height=4, threshold=0.5)
    assert (drawn.png, drawn.area) == (encode_png(grey), 1 / 20)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_mask_are_unfit_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(Unfit):
        drawn_mask(data, width=5, height=4, threshold=0.5)


# -- quality ---------------------------------------------------------------------------------------------------------


def test_agreement_is_that_of_cohens_paper() -> None:
    """J. Cohen 1960, table 1: three categories, 200 cases, kappa .492."""
    table = {("a", "a"): 88, ("a", "b"): 14, ("a", "c"): 18, ("b", "a"): 10, ("b", "b"): 40, ("b", "c"): 10,
             ("c", "a"): 2, ("c", "b"): 6, ("c", "c"): 12}  # fmt: skip
    found = agreement([pair for pair, times in table.items() for _ in range(times)])
    assert found.cases == 200
    assert found.percent == pytest.approx(0.70)
    assert found.kappa == pytest.approx(0.492, abs=0.001)


def test_kappa_is_unknown_where_both_always_say_the_same_and_zero_by_chance() -> None:
    assert agreement([("a", "a")] * 3).kappa is None
    assert agreement([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]).kappa == pytest.approx(0.0)
    with pytest.raises(ValueError, match="twice"):
        agreement([])


def test_a_pair_is_one_whoever_of_the_two_came_first() -> None:
    ann, bob = Answer("ann", "manipulated"), Answer("bob", "no_evidence")
    assert by_pair([(ann, bob), (bob, ann)]) == {("ann", "bob"): [("manipulated", "no_evidence")] * 2}


@pytest.mark.parametrize(
    ("cases", "minutes", "cases_limit", "minutes_limit", "used_up"),
    [(5, 9.0, None, None, False), (5, 9.0, 6, 10.0, False), (5, 9.0, 5, None, True), (5, 9.0, None, 9.0, True)],
)
def test_a_budget_is_used_up_by_cases_or_minutes(
    cases: int, minutes: float, cases_limit: int | None, minutes_limit: float | None, used_up: bool
) -> None:
    assert Exposure(cases, minutes, cases_limit, minutes_limit).used_up is used_up


def test_a_share_of_nothing_is_never_due_and_one_of_everything_always() -> None:
    assert not due(0.0, 0.0)
    assert due(0.999, 1.0)
