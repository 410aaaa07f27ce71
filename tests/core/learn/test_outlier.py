"""Pictures that are unlike the training data, told by size, compression and format of their files."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from services.core.events import HardCaseReason, StoredImage
from services.core.learn.hardcase import reasons
from services.core.learn.outlier import LEAST_PICTURES, Range, TrainingRanges, outlier, training_ranges
from services.core.policy import Policy
from tests.core.facts import image, verdict


def file(*, width: int = 640, height: int = 480, bits: float = 2.0, kind: str = "JPEG") -> StoredImage:
    size = max(1, round(width * height * bits / 8))
    return image().model_copy(update={"width": width, "height": height, "size_bytes": size, "format": kind})


def library(count: int, seed: int = 0) -> list[StoredImage]:
    """JPEG files between half and two megapixels, of 1 to 4 bits a pixel."""
    rng = np.random.default_rng(seed)
    return [file(width=int(rng.integers(700, 2000)), height=700, bits=float(rng.uniform(1, 4))) for _ in range(count)]


@pytest.fixture(scope="module")
def ranges() -> TrainingRanges:
    found = training_ranges(library(1000))
    assert found is not None
    return found


def test_of_pictures_like_the_training_data_about_two_percent_are_outliers(ranges: TrainingRanges) -> None:
    share = np.mean([outlier(each, ranges) for each in library(2000, seed=1)])
    assert 0.005 < share < 0.04


@pytest.mark.parametrize(
    "strange",
    [
        file(width=100, height=100),
        file(width=9000, height=9000),
        file(width=1000, height=700, bits=0.1),
        file(width=1000, height=700, bits=12),
        file(width=1000, height=700, kind="WEBP"),
    ],
    ids=["tiny", "huge", "crushed", "hardly compressed", "another format"],
)
def test_a_file_beyond_the_training_data_is_an_outlier(ranges: TrainingRanges, strange: StoredImage) -> None:
    assert not outlier(file(width=1000, height=700), ranges)
    assert outlier(strange, ranges)


def test_a_format_of_few_pictures_has_no_range_and_few_pictures_have_none_at_all() -> None:
    some = [file(kind="PNG", bits=12)] * (LEAST_PICTURES - 1)
    mixed = training_ranges([*library(LEAST_PICTURES), *some])
    assert mixed is not None
    assert list(mixed.formats) == ["JPEG"]
    assert training_ranges(some) is None


def test_outliers_are_hard_cases_once_a_policy_says_what_was_fitted_on(ranges: TrainingRanges) -> None:
    strange = verdict(image=file(width=100, height=100))
    assert reasons(strange, Policy(audit_share=0)) == ()
    assert reasons(strange, Policy(audit_share=0, training=ranges)) == (HardCaseReason.OUTLIER,)


def test_a_policy_without_ranges_keeps_the_version_that_it_had(ranges: TrainingRanges) -> None:
    assert Policy().version == "default-1fb8742bee"
    assert Policy(training=ranges).version != Policy().version
    again = Policy.model_validate_json(Policy(training=ranges).model_dump_json())
    assert again.version == Policy(training=ranges).version


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValidationError, match="from low to high"):
        Range(low=2, high=1)
