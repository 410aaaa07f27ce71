"""How long things are kept: days, what goes with what, and settings that would break the promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from services.core.erasure import unknown
from services.core.retention import LEAST_VERDICT_DAYS, Cutoffs, Keep, cutoffs, without_mask
from services.core.topology import TOPICS
from services.settings import RetentionSettings
from tests.core.facts import verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def days(count: int) -> datetime:
    return NOW - timedelta(days=count)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep(), Cutoffs(None, None, None, None)),
        (Keep(pictures_days=30), Cutoffs(days(30), days(30), None, None)),
        (Keep(verdicts_days=90), Cutoffs(days(90), days(90), None, days(90))),
        (Keep(pictures_days=30, verdicts_days=90), Cutoffs(days(30), days(30), None, days(90))),
        (Keep(pictures_days=200, verdicts_days=90), Cutoffs(days(90), days(90), None, days(90))),
        (Keep(pictures_days=30, samples_days=700), Cutoffs(days(30), days(700), None, None)),
        (Keep(pictures_days=30, samples_days=7), Cutoffs(days(30), days(30), None, None)),
        (Keep(masks_days=5, samples_days=7), Cutoffs(None, None, days(5), None)),
    ],
)
def test_pictures_go_with_their_verdict_at_the_latest_and_samples_never_before_others(
    keep: Keep, expected: Cutoffs
) -> None:
    assert cutoffs(keep, NOW) == expected


def test_a_verdict_without_its_mask_says_so_once() -> None:
    before = verdict()
    assert before.mask is not None
    after = without_mask(before)
    assert (after.mask, after.decision, after.image) == (None, before.decision, before.image)
    assert [reason.code for reason in after.reasons] == [*(reason.code for reason in before.reasons), "mask_expired"]
    assert without_mask(after) == after


def test_a_verdict_outlives_every_message_that_could_bring_its_upload_back() -> None:
    longest = max(topic.retention_hours or 0 for topic in TOPICS.values())
    assert longest < LEAST_VERDICT_DAYS * 24
    RetentionSettings(verdicts_days=LEAST_VERDICT_DAYS)
    with pytest.raises(ValidationError, match="verdicts_days"):
        RetentionSettings(verdicts_days=LEAST_VERDICT_DAYS - 1)
    with pytest.raises(ValidationError, match="tenant acme"):
        RetentionSettings.model_validate({"tenants": {"acme": {"verdicts_days": 3}}})


def test_a_tenant_has_what_it_was_given_and_for_the_rest_what_everybody_has() -> None:
    given = {"pictures_days": 30, "masks_days": 10, "tenants": {"acme": {"pictures_days": 0, "verdicts_days": 400}}}
    settings = RetentionSettings.model_validate(given)
    assert settings.of("other") == Keep(pictures_days=30, masks_days=10)
    assert settings.of("acme") == Keep(pictures_days=0, masks_days=10, verdicts_days=400)


def erasure(mark: str, day: int) -> dict[str, str]:
    return {"tenant": "acme", "mark": mark, "erased_at": f"2026-11-{day:02}T10:00:00+00:00"}


def test_only_erasures_that_a_restored_database_has_not_seen_are_done_again() -> None:
    listed = [erasure("a", 1), erasure("b", 2), erasure("a", 9)]
    assert unknown(listed, [erasure("a", 1)]) == [erasure("b", 2), erasure("a", 9)]
    assert unknown(listed, listed) == []
    assert unknown(listed, [erasure("b", 20), {**erasure("a", 20), "tenant": "other"}]) == [listed[0], listed[2]]
