from __future__ import annotations

from services.core.judge.route import Alone, Compare, Identical, route
from services.core.policy import Policy
from tests.core.facts import UPLOAD, candidate, intake

NEVER_BOTH = Policy(both_paths_share=0.0)
ALWAYS_BOTH = Policy(both_paths_share=1.0)


def test_without_candidates_an_upload_is_looked_at_alone() -> None:
    assert route(intake(), NEVER_BOTH) == Alone()


def test_a_trusted_candidate_is_compared_and_needs_no_second_path() -> None:
    assert route(intake(candidate()), NEVER_BOTH) == Compare(candidate(), both=False)


def test_an_earlier_upload_is_compared_but_both_paths_look() -> None:
    untrusted = candidate(trusted=False)
    assert route(intake(untrusted), NEVER_BOTH) == Compare(untrusted, both=True)


def test_a_random_share_of_trusted_pairs_is_looked_at_by_both_paths() -> None:
    assert route(intake(candidate()), ALWAYS_BOTH) == Compare(candidate(), both=True)


def test_a_candidate_that_covers_too_little_is_passed_over_for_the_next() -> None:
    sliver, whole = candidate(overlap=0.1), candidate(original_id="second")
    assert route(intake(sliver, whole), NEVER_BOTH) == Compare(whole, both=False)


def test_the_very_bytes_of_a_trusted_original_need_no_model() -> None:
    same = candidate(sha256=UPLOAD)
    assert route(intake(same), NEVER_BOTH) == Identical(same)


def test_the_very_bytes_of_an_earlier_upload_are_no_evidence() -> None:
    assert route(intake(candidate(sha256=UPLOAD, trusted=False)), NEVER_BOTH) == Alone()
