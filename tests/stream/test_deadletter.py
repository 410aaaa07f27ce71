from __future__ import annotations

from services.core.envelope import Undecodable
from services.core.errors import Broken, Rejected, Unavailable
from services.stream.deadletter import LEAST_SEEN, Limit, kind_of


def test_a_run_of_dead_letters_is_one_too_many_at_the_limit() -> None:
    limit = Limit(share=1.0, run=3)
    assert [limit.exceeded_by_one_more() is not None for _ in range(4)] == [False, False, False, True]


def test_a_success_ends_a_run() -> None:
    limit = Limit(share=1.0, run=1)
    for _ in range(10):
        assert limit.exceeded_by_one_more() is None
        limit.succeeded()


def test_a_share_counts_only_when_enough_was_seen() -> None:
    limit = Limit(share=0.5, run=1000)
    verdicts = [limit.exceeded_by_one_more() for _ in range(LEAST_SEEN)]
    assert verdicts[:-1] == [None] * (LEAST_SEEN - 1)
    assert verdicts[-1] is not None


def test_each_kind_of_error_is_its_own_kind_of_dead_letter() -> None:
    errors = [Undecodable(""), Rejected("corrupt", ""), Unavailable("postgres", ""), Broken(""), ValueError("")]
    assert [kind_of(error) for error in errors] == ["undecodable", "rejected", "unavailable", "broken", "broken"]
