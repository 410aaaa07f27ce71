"""How the demo counts verdicts and compares them with the truth: that it can fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from services.cli.demo import different_verdicts, undelivered
from services.cli.demo_report import Result, Truth, read_truths, write_report
from services.core.envelope import Message, encode
from services.core.events import Decision, Mask, Reason, StoredImage, VerdictReached
from services.core.events import Path as VerdictPath
from services.core.judge.mask import to_rle
from services.core.pixels import encode_png
from tests.cli.conftest import SAMPLES

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EDITED = Truth("a sample", ("manipulated",), None, None)
UNUSABLE = Truth("a sample", ("rejected",), "truncated", None)


def rejected(upload_id: str = "u-1", code: str = "truncated") -> VerdictReached:
    return VerdictReached(
        upload_id=upload_id,
        tenant="demo",
        decision=Decision.REJECTED,
        path=VerdictPath.REJECTED,
        reasons=(Reason(code=code, text="It ends early."),),
        policy_version="p-1",
        uploaded_at=NOW,
        judged_at=NOW,
    )


def manipulated(binary: np.ndarray) -> VerdictReached:
    height, width = binary.shape
    stored = StoredImage(object_key="k", sha256="ab" * 32, size_bytes=1, width=width, height=height, format="PNG")
    mask = Mask(object_key="m", rle=to_rle(binary), area=float(binary.mean()), qes=1.0)
    values = {"decision": "manipulated", "path": "unconstrained", "score": 0.9, "image": stored, "mask": mask}
    return VerdictReached.model_validate({**rejected().model_dump(), **values})


def message(verdict: VerdictReached) -> Message:
    return encode(verdict, source="/test", time=NOW)


def result(*verdicts: VerdictReached, truth: Truth = UNUSABLE) -> Result:
    return Result(Path("sample.jpg"), truth, verdicts)


def test_a_verdict_that_is_delivered_again_is_still_one() -> None:
    found = different_verdicts([message(rejected()), message(rejected())], ["u-1"])
    assert found == {"u-1": (rejected(),)}
    assert undelivered([result(*found["u-1"])]) == ""


def test_two_different_verdicts_of_an_upload_are_found_and_named() -> None:
    delivered = [message(rejected()), message(rejected(code="corrupt")), message(rejected("somebody-elses"))]
    found = different_verdicts(delivered, ["u-1"])
    assert len(found["u-1"]) == 2
    assert undelivered([result(*found["u-1"])]) == "sample.jpg has 2"
    assert result(*found["u-1"]).miss == "expected one verdict, got 2"


def test_an_upload_without_a_verdict_is_named() -> None:
    found = different_verdicts([], ["u-1"])
    assert undelivered([result(*found["u-1"])]) == "sample.jpg has 0"


@pytest.mark.parametrize(
    ("verdict", "truth", "miss"),
    [
        (rejected(), UNUSABLE, None),
        (rejected(code="corrupt"), UNUSABLE, "expected the rejection truncated, got corrupt"),
        (rejected(), EDITED, "expected manipulated, got rejected"),
    ],
)
def test_a_verdict_is_compared_with_what_is_right(verdict: VerdictReached, truth: Truth, miss: str | None) -> None:
    assert result(verdict, truth=truth).miss == miss


def test_the_flagged_region_is_compared_with_the_true_one(tmp_path: Path) -> None:
    true = np.zeros((40, 50), np.uint8)
    true[10:30, 10:30] = 255
    (tmp_path / "mask.png").write_bytes(encode_png(true))
    truth = Truth("edited", ("manipulated",), None, tmp_path / "mask.png")
    half = true // 255
    half[20:] = 0
    assert result(manipulated(half), truth=truth).mask_iou() == pytest.approx(0.5)
    assert result(rejected(), truth=truth).mask_iou() is None


def test_the_report_names_what_came_out_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = SAMPLES / "uploads" / "truncated.jpg"
    results = [Result(file, EDITED, (rejected(),)), Result(file, UNUSABLE, (rejected(),))]
    words = write_report(tmp_path, results, SAMPLES, as_json=True)
    assert words == ("1 of 2 uploads came out as expected; not so: truncated.jpg (expected manipulated, got rejected).")
    written = json.loads((tmp_path / "verdicts.json").read_text())
    assert [each["as_expected"] for each in written] == [False, True]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == written


def test_every_sample_has_a_truth() -> None:
    uploads = {path for path in (SAMPLES / "uploads").iterdir() if path.is_file()}
    assert set(read_truths(SAMPLES)) == uploads
