from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.core.policy import DEFAULT_POLICY, Policy, chosen


def test_the_same_numbers_are_the_same_version_and_any_change_is_another() -> None:
    assert Policy().version == Policy().version
    assert Policy(least_qes=0.6).version != Policy().version
    assert Policy(name="strict").version.startswith("strict-")
    assert Policy(name="strict").version.removeprefix("strict") == Policy().version.removeprefix("default")


def test_a_misspelt_threshold_is_an_error_and_not_ignored() -> None:
    with pytest.raises(ValidationError, match="mask_treshold"):
        Policy.model_validate({"mask_treshold": 0.4})


def test_a_share_takes_about_its_share_and_is_independent_of_its_purpose() -> None:
    taken = [chosen(f"audit/{i}", 0.2) for i in range(5000)]
    assert 0.17 < sum(taken) / len(taken) < 0.23
    assert taken != [chosen(f"both/{i}", 0.2) for i in range(5000)]
    assert not any(chosen(str(i), 0.0) for i in range(100))
    assert all(chosen(str(i), 1.0) for i in range(100))


def test_policies_with_the_same_numbers_have_the_same_hash() -> None:
    """Processes that are started for one policy are kept by it."""
    assert hash(DEFAULT_POLICY) == hash(DEFAULT_POLICY.model_copy())
