"""The served models: what they answer, and that a bad item never touches the others of its batch."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from model_archive.check import GOLDEN
from model_archive.handlers import serving
from model_archive.handlers.analysis import Model, Prepared
from model_archive.handlers.constrained import Constrained
from model_archive.handlers.probe import LocalContext
from model_archive.handlers.results import (
    KEYWORD,
    Analysis,
    ItemError,
    PairRequest,
    SingleRequest,
    pair_request,
    single_request,
)
from model_archive.handlers.single import Limits, prepared_single
from model_archive.handlers.unconstrained import Unconstrained
from services.core import pixels
from services.core.errors import Rejected
from services.core.intake.lookup import verify
from services.core.learn.qes import qes
from tests.models.conftest import textured

UPLOAD = (GOLDEN / "upload.jpg").read_bytes()
ORIGINAL = (GOLDEN / "original.jpg").read_bytes()
SAMPLES = Path(__file__).parents[2] / "samples"


def encoded(picture: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def analysed(answer: Analysis | ItemError) -> Analysis:
    assert isinstance(answer, Analysis), answer
    return answer


def opened(entry: Constrained | Unconstrained) -> LocalContext:
    """An initialised entry's context, with the shipped weights."""
    context = LocalContext({}, {"model_dir": str(Path(serving.__file__).parents[1] / "weights")})
    entry.initialize(context)
    return context


@pytest.mark.parametrize("name", ["constrained", "unconstrained"])
def test_the_golden_request_gives_the_golden_mask(
    name: str, constrained: Model[PairRequest], unconstrained: Model[SingleRequest]
) -> None:
    if name == "constrained":
        answer = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL)])[0])
    else:
        answer = analysed(unconstrained.analyse([SingleRequest(UPLOAD)])[0])
    golden, _ = pixels.read_mask_png((GOLDEN / f"{name}.png").read_bytes())
    assert answer.mask.shape == golden.shape
    assert np.abs(answer.mask.astype(int) - golden.astype(int)).mean() < 2.0


def test_the_pair_model_finds_the_second_tower_and_hardly_anything_else(constrained: Model[PairRequest]) -> None:
    answer = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL)])[0])
    tower = np.zeros(answer.mask.shape, bool)
    tower[100:185, 80:140] = True
    flagged = answer.mask >= 128
    assert flagged[tower].mean() > 0.2
    assert flagged[~tower].mean() < 0.01
    assert answer.kind == "spg"
    assert answer.score > 0.5
    assert answer.inliers is not None
    assert answer.inliers >= 12


@pytest.mark.parametrize(("quality", "side"), [(90, 480), (60, 480), (85, 300)])
def test_an_unedited_copy_gives_a_nearly_empty_mask(quality: int, side: int, constrained: Model[PairRequest]) -> None:
    original = np.array(Image.open(io.BytesIO(ORIGINAL)))
    copy = cv2.resize(original, (side, side * 320 // 480), interpolation=cv2.INTER_AREA)
    answer = analysed(constrained.analyse([PairRequest(encoded(copy, quality=quality), ORIGINAL)])[0])
    assert answer.mask.shape == copy.shape[:2]
    assert (answer.mask >= 128).mean() < 0.005


def test_a_jpeg_saved_again_at_its_own_quality_shows_no_edit(constrained: Model[PairRequest]) -> None:
    """Most of its blocks come through unchanged, which must not make the rest of them a finding."""
    once = encoded(textured(np.random.default_rng(5), 320), quality=88)
    again = encoded(np.array(Image.open(io.BytesIO(once))), quality=88)
    answer = analysed(constrained.analyse([PairRequest(again, once)])[0])
    assert answer.kind == "spg"
    assert (answer.mask >= 128).mean() < 0.005


def test_an_edit_saved_without_loss_is_marked_to_the_pixel(constrained: Model[PairRequest]) -> None:
    original = np.array(Image.open(io.BytesIO(ORIGINAL)))
    forged = original.copy()
    forged[200:240, 300:360] = original[100:140, 100:160]
    answer = analysed(constrained.analyse([PairRequest(encoded(forged, "PNG"), ORIGINAL)])[0])
    changed = (forged != original).any(axis=2)
    flagged = answer.mask >= 128
    assert (flagged & changed).sum() / changed.sum() > 0.95
    assert (flagged & changed).sum() / (flagged | changed).sum() > 0.8


def test_the_very_same_file_needs_no_network_and_shows_nothing(constrained: Model[PairRequest]) -> None:
    answer = analysed(constrained.analyse([PairRequest(ORIGINAL, ORIGINAL)])[0])
    assert (answer.kind, answer.score, answer.qes, answer.overlap) == ("spg", 0.0, 0.0, 1.0)
    assert not answer.mask.any()


def test_pictures_of_different_things_are_unrelated(constrained: Model[PairRequest]) -> None:
    other = encoded(textured(np.random.default_rng(3)))
    answer = analysed(constrained.analyse([PairRequest(other, ORIGINAL)])[0])
    assert answer.kind == "unrelated"
    assert answer.score == 0.0
    assert not answer.mask.any()


def test_an_object_pasted_elsewhere_is_marked_in_the_upload_and_in_the_original(
    constrained: Model[PairRequest],
) -> None:
    upload, original = (
        (SAMPLES / name).read_bytes() for name in ("uploads/desert-giraffe.jpg", "originals/giraffe.jpg")
    )
    answer = analysed(constrained.analyse([PairRequest(upload, original)])[0])
    truth = cv2.imread(str(SAMPLES / "truth" / "desert-giraffe.png"), cv2.IMREAD_GRAYSCALE) > 127
    flagged = answer.mask >= 128
    assert answer.kind == "sdg"
    assert (flagged & truth).sum() / (flagged | truth).sum() > 0.6
    assert answer.original_mask is not None
    opened_original = pixels.open_image(original)
    assert answer.original_mask.shape == (opened_original.height, opened_original.width)
    assert 0.0 < (answer.original_mask >= 128).mean() < 0.5


def test_a_mirrored_copy_of_the_original_shows_no_edit(constrained: Model[PairRequest]) -> None:
    mirrored = encoded(np.array(Image.open(io.BytesIO(ORIGINAL)))[:, ::-1], quality=85)
    answer = analysed(constrained.analyse([PairRequest(mirrored, ORIGINAL)])[0])
    assert answer.kind == "spg"
    assert (answer.mask >= 128).mean() < 0.005


def test_an_edit_of_a_mirrored_picture_is_marked_with_the_map_that_lookup_found(
    constrained: Model[PairRequest],
) -> None:
    """Not sought anew: the hint is used as it is, and the mask is the mirror image of that of the plain pair."""
    mirrored = encoded(np.array(Image.open(io.BytesIO(UPLOAD)))[:, ::-1], quality=95)
    (verified,) = verify(mirrored, [ORIGINAL])
    assert verified is not None
    hint = np.array(verified.homography).reshape(3, 3)
    assert np.linalg.det(hint[:2, :2]) < 0
    answer = analysed(constrained.analyse([PairRequest(mirrored, ORIGINAL, hint)])[0])
    plain = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL)])[0]).mask[:, ::-1] >= 128
    marked = answer.mask >= 128
    assert answer.kind == "spg"
    assert answer.inliers is None
    assert answer.overlap == pytest.approx(1.0, abs=0.01)
    assert (marked & plain).sum() / (marked | plain).sum() > 0.8


def test_averaging_over_mirror_images_changes_the_mask_a_little(constrained: Model[PairRequest]) -> None:
    once = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL)])[0])
    thrice = analysed(replace(constrained, flips=True).analyse([PairRequest(UPLOAD, ORIGINAL)])[0])
    difference = np.abs(once.mask.astype(int) - thrice.mask.astype(int))
    assert 0.0 < difference.mean() < 5.0


def test_pairs_of_different_kinds_in_one_batch_get_the_answers_that_they_get_alone(
    constrained: Model[PairRequest],
) -> None:
    desert, giraffe = (
        (SAMPLES / name).read_bytes() for name in ("uploads/desert-giraffe.jpg", "originals/giraffe.jpg")
    )
    items = [PairRequest(UPLOAD, ORIGINAL), PairRequest(desert, giraffe), PairRequest(desert, ORIGINAL)]
    together = [analysed(answer) for answer in constrained.analyse(items)]
    assert [answer.kind for answer in together] == ["spg", "sdg", "unrelated"]
    for answer, item in zip(together, items, strict=True):
        alone = analysed(constrained.analyse([item])[0])
        assert np.abs(answer.mask.astype(int) - alone.mask.astype(int)).max() <= 1


def test_a_given_homography_is_used_instead_of_a_search(constrained: Model[PairRequest]) -> None:
    answer = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL, np.eye(3))])[0])
    assert answer.inliers is None
    assert answer.overlap == pytest.approx(1.0)


def test_a_given_homography_that_leads_nowhere_is_sought_anew(constrained: Model[PairRequest]) -> None:
    away = np.array([[1.0, 0.0, 5000.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    answer = analysed(constrained.analyse([PairRequest(UPLOAD, ORIGINAL, away)])[0])
    assert answer.kind == "spg"
    assert answer.inliers is not None
    assert answer.overlap == pytest.approx(1.0)


def test_a_page_that_shows_the_original_in_a_corner_is_the_same_picture(constrained: Model[PairRequest]) -> None:
    page = np.full((700, 1000, 3), 245, np.uint8)
    page[40:360, 60:540] = np.array(Image.open(io.BytesIO(ORIGINAL)))
    answer = analysed(constrained.analyse([PairRequest(encoded(page, quality=90), ORIGINAL)])[0])
    assert answer.kind == "spg"
    assert answer.overlap == pytest.approx(320 * 480 / 700_000, abs=0.01)
    assert (answer.mask >= 128).mean() < 0.005


def test_a_large_upload_is_analysed_in_tiles_and_its_mask_has_the_full_size(
    unconstrained: Model[SingleRequest],
) -> None:
    large = encoded(textured(np.random.default_rng(1), 1500), quality=80)
    assert analysed(unconstrained.analyse([SingleRequest(large)])[0]).mask.shape == (1500, 1500)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("TIFF", "CMYK"), ("GIF", "P")]
)
def test_every_kind_of_file_gets_a_mask_of_its_size(kind: str, mode: str, unconstrained: Model[SingleRequest]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(textured(np.random.default_rng(2), 90)[:, :70]).convert(mode).save(buffer, kind)
    assert analysed(unconstrained.analyse([SingleRequest(buffer.getvalue())])[0]).mask.shape == (90, 70)


def test_the_mask_of_a_turned_photograph_is_upright(unconstrained: Model[SingleRequest]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(textured(np.random.default_rng(2), 96)[:64], exif=exif)
    assert analysed(unconstrained.analyse([SingleRequest(lying)])[0]).mask.shape == (96, 64)


def test_bad_items_get_their_reason_and_the_others_their_masks(unconstrained: Model[SingleRequest]) -> None:
    good = [SingleRequest(UPLOAD), SingleRequest(ORIGINAL)]
    bad = [SingleRequest(b""), SingleRequest(UPLOAD[:3000]), SingleRequest(b"%PDF-1.7 no image")]
    answers = unconstrained.analyse([bad[0], good[0], bad[1], good[1], bad[2]])
    codes = [answer.code for answer in answers if isinstance(answer, ItemError)]
    assert codes == ["empty", "truncated", "unsupported_type"]
    alone = [analysed(answer) for answer in unconstrained.analyse(good)]
    for together, apart in zip((answers[1], answers[3]), alone, strict=True):
        difference = analysed(together).mask.astype(int) - apart.mask.astype(int)
        assert np.abs(difference).max() <= 1


def test_an_unexpected_error_of_one_item_is_broken_and_spares_the_others(unconstrained: Model[SingleRequest]) -> None:
    told: list[Exception] = []

    def failing(request: SingleRequest) -> Prepared:
        if request.upload == ORIGINAL:
            raise ZeroDivisionError("a bug")
        return prepared_single(request, Limits())

    model = replace(unconstrained, prepare=failing, on_error=told.append)
    first, second = model.analyse([SingleRequest(ORIGINAL), SingleRequest(UPLOAD)])
    assert isinstance(first, ItemError)
    assert (first.kind, first.status, first.code) == ("broken", 500, None)
    assert "ZeroDivisionError: a bug" in first.message
    assert isinstance(second, Analysis)
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_an_input_that_breaks_the_network_spares_the_others_of_its_stack(unconstrained: Model[SingleRequest]) -> None:
    def with_a_channel_too_few(request: SingleRequest) -> Prepared:
        prepared = prepared_single(request, Limits())
        assert prepared.x is not None
        if request.upload == ORIGINAL:
            prepared.x = np.zeros((1, 2, *prepared.x.shape[2:]), np.float32)
        return prepared

    model = replace(unconstrained, prepare=with_a_channel_too_few)
    answers = model.analyse([SingleRequest(UPLOAD), SingleRequest(ORIGINAL), SingleRequest(UPLOAD)])
    assert [type(answer) for answer in answers] == [Analysis, ItemError, Analysis]


def test_no_items_give_no_answers(unconstrained: Model[SingleRequest]) -> None:
    assert unconstrained.analyse([]) == []


def test_torchserve_gets_png_bytes_and_an_own_status_for_each_item() -> None:
    entry = Constrained()
    context = opened(entry)
    good = {"upload": bytearray(UPLOAD), "original": bytearray(ORIGINAL)}
    data = [good, {"upload": UPLOAD}, good | {"homography": b"[1, 0, 0]"}, good | {"upload": b"\xff\xd8\xff\x00"}]
    bodies = entry.handle(data, context)
    assert context.statuses == {1: 422, 2: 422, 3: 422}
    assert context.content_types == {
        0: "image/png",
        1: "application/json",
        2: "application/json",
        3: "application/json",
    }
    errors = [json.loads(body)["error"] for body in bodies[1:]]
    assert [error["kind"] for error in errors] == ["rejected"] * 3
    assert [error["code"] for error in errors[:2]] == ["empty", "corrupt"]
    mask, text = pixels.read_mask_png(bodies[0])
    facts = json.loads(text[KEYWORD])
    assert mask.shape == (facts["height"], facts["width"])
    assert list(facts) == [
        *("model", "version", "kind", "score", "qes", "inliers", "overlap", "width", "height", "seconds")
    ]
    assert facts["model"] == "constrained"
    assert facts["qes"] == pytest.approx(qes(mask), abs=0.02)


def test_the_single_model_takes_a_form_field_or_a_raw_body() -> None:
    entry = Unconstrained()
    context = opened(entry)
    bodies = entry.handle([{"upload": UPLOAD}, {"body": bytearray(UPLOAD)}, {"data": UPLOAD}, {}], context)
    assert context.statuses == {3: 422}
    masks = [pixels.read_mask_png(body)[0].astype(int) for body in bodies[:3]]
    assert max(np.abs(masks[0] - mask).max() for mask in masks[1:]) <= 1
    assert "kind" not in json.loads(pixels.read_mask_png(bodies[0])[1][KEYWORD])


def test_a_worker_without_weights_does_not_start(tmp_path: Path) -> None:
    context = LocalContext({}, {"model_dir": str(tmp_path)})
    with pytest.raises(Exception, match="holds no usable weights"):
        Unconstrained().initialize(context)


@pytest.mark.parametrize(
    "given", [b"[1, 2]", b"not json", b"[1,0,0,0,1,0,0,0,null]", "[0,0,0,0,0,0,0,0,0]", b"[NaN,0,0,0,1,0,0,0,1]"]
)
def test_a_homography_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(Rejected, match="homography"):
        pair_request({"upload": b"x", "original": b"y", "homography": given})


def test_a_field_that_holds_no_bytes_is_refused() -> None:
    with pytest.raises(Rejected, match="upload"):
        single_request({"upload": {"json": True}})


def test_cores_are_shared_out_among_the_workers_unless_threads_are_set() -> None:
    assert serving.thread_count({}, 8) == 4
    assert serving.thread_count({serving.WORKERS: "16"}, 8) == 1
    assert serving.thread_count({serving.THREADS: "3"}, 8) == 3
