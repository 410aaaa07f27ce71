"""Generated forgeries: deterministic, with exact masks, and twins that differ by the forgery alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model_archive import preprocess
from trainer.data import single_example
from trainer.synthesis import __main__ as contact
from trainer.synthesis import disturbances, edits, objects, pairs, photos, samples, shapes
from trainer.synthesis.photos import PhotoPool, Scene, held_out

SIZE = 96


def test_the_same_seed_and_index_give_the_same_sample(pool: PhotoPool) -> None:
    for index in range(4):
        first, second = samples.single(pool, 7, index, SIZE), samples.single(pool, 7, index, SIZE)
        np.testing.assert_array_equal(first.picture, second.picture)
        np.testing.assert_array_equal(first.mask, second.mask)
        one, two = samples.pair(pool, 7, index, SIZE), samples.pair(pool, 7, index, SIZE)
        np.testing.assert_array_equal(one.forged, two.forged)
        np.testing.assert_array_equal(one.original, two.original)


def test_another_seed_gives_another_sample(pool: PhotoPool) -> None:
    first, second = samples.single(pool, 7, 0, SIZE), samples.single(pool, 8, 0, SIZE)
    assert not np.array_equal(first.picture, second.picture)


def test_a_twin_is_authentic_and_its_sibling_is_forged(pool: PhotoPool) -> None:
    for index in range(0, 12, 2):
        forged, twin = samples.single(pool, 3, index, SIZE), samples.single(pool, 3, index + 1, SIZE)
        assert forged.mask.any()
        assert not twin.mask.any()
        assert twin.kind == "authentic"


def test_a_twin_went_through_the_same_save_as_its_sibling(pool: PhotoPool) -> None:
    """Blocks of the final JPEG that lie far from the forgery must come out alike."""
    alike = []
    for index in range(0, 24, 2):
        forged, twin = samples.single(pool, 11, index, SIZE), samples.single(pool, 11, index + 1, SIZE)
        difference = np.abs(forged.picture.astype(int) - twin.picture.astype(int)).max(axis=2)
        alike.append(np.median(difference[~forged.mask]) <= 1)
    assert np.mean(alike) > 0.9


def test_a_picture_to_fit_on_and_its_twin_are_saved_again_alike(pool: PhotoPool) -> None:
    """Elsewhere than in the forgery the inputs of the two hardly differ, and a further save shows in some of them."""
    alike, again = [], []
    for index in range(0, 40, 2):
        (forged, mask), (twin, none) = single_example(pool, 12, index, SIZE), single_example(pool, 12, index + 1, SIZE)
        assert not none.any()
        alike.append(np.median(np.abs(forged - twin)[:3].max(axis=0)[~mask]) <= 1 / 255)
        first = samples.single(pool, 12, index, SIZE)
        again.append(not np.array_equal(forged, preprocess.single_input(first.picture, first.steps)))
    assert np.mean(alike) > 0.9
    assert 0.15 < np.mean(again) < 0.7


def test_some_pairs_are_not_forged(pool: PhotoPool) -> None:
    kinds = [samples.pair(pool, 5, index, SIZE).kind for index in range(40)]
    assert 2 <= kinds.count("authentic") <= 30


def test_a_pairs_mask_lies_where_the_original_has_pixels(pool: PhotoPool) -> None:
    for index in range(20):
        sample = samples.pair(pool, 6, index, SIZE)
        assert not (sample.mask & ~sample.valid).any()


@pytest.mark.parametrize("edit", [edit for edit, _ in edits.EDITS], ids=lambda edit: edit.__name__)
def test_an_edit_changes_the_picture_inside_its_mask_and_hardly_outside(edit: object, pool: PhotoPool) -> None:
    changed_inside, changed_outside = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        host, donor = pool.scene(rng, SIZE), pool.scene(rng, SIZE)
        result = edit(rng, host, donor)  # type: ignore[operator]
        if not edits.SMALLEST_SHARE < result.mask.mean() < 0.6:
            continue
        change = np.abs(result.picture.astype(int) - host.picture.astype(int)).max(axis=2)
        changed_inside.append(change[result.mask].mean())
        changed_outside.append(change[~result.mask].mean())
        assert result.picture.dtype == np.uint8
        assert result.picture.shape == host.picture.shape
    assert np.mean(changed_inside) > 4 * np.mean(changed_outside)


def test_the_shares_of_the_edits_sum_to_one() -> None:
    assert sum(share for _, share in edits.EDITS) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_a_shape_covers_about_the_share_that_was_asked_for(share: float) -> None:
    covered = [shapes.shape(np.random.default_rng(seed), 128, share=share).mean() for seed in range(40)]
    assert 0.4 * share < np.median(covered) < 2.0 * share


def test_a_thing_is_one_connected_region_of_its_label() -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[5:20, 5:20] = 3
    labels[40:44, 40:44] = 3
    found = shapes.thing(np.random.default_rng(0), labels)
    assert found is not None
    assert found.sum() == 15 * 15


def test_a_picture_without_things_falls_back_to_a_shape() -> None:
    scene = Scene(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.int32))
    assert shapes.region(np.random.default_rng(0), scene).any()


def test_a_neutral_disturbance_changes_nothing(pool: PhotoPool) -> None:
    picture = pool.scene(np.random.default_rng(0), SIZE).picture
    np.testing.assert_array_equal(disturbances.Disturbance().apply(picture), picture)


def test_a_disturbance_keeps_the_size_and_is_repeatable(pool: PhotoPool) -> None:
    picture = pool.scene(np.random.default_rng(0), SIZE).picture
    for seed in range(20):
        disturbance = disturbances.side(np.random.default_rng(seed))
        once = disturbance.apply(picture)
        assert once.shape == picture.shape
        np.testing.assert_array_equal(once, disturbance.apply(picture))


def test_light_falls_off_towards_the_corners_and_clarity_stretches_local_contrast() -> None:
    flat = np.full((SIZE, SIZE, 3), 120, np.uint8)
    darkened = disturbances.Disturbance(vignette=0.3).apply(flat)
    assert darkened[0, 0, 0] == round(120 * 0.7) and darkened[SIZE // 2, SIZE // 2, 0] >= 119
    step = flat.copy()
    step[:, SIZE // 2 :] = 160
    for clarity, wider in ((0.5, True), (-0.3, False)):
        changed = disturbances.Disturbance(clarity=clarity).apply(step).astype(int)
        gap = changed[0, SIZE // 2 + 1, 0] - changed[0, SIZE // 2 - 2, 0]
        assert (gap > 40) == wider
        assert changed[0, 0, 0] == 120


def test_fitting_and_calibration_share_no_photograph(photo_folder: Path) -> None:
    everything, fitted, kept = (
        {p.path for p in PhotoPool.scan([photo_folder / "photos"], split=split).photos}
        for split in ("all", "fit", "held_out")
    )
    assert fitted | kept <= everything
    assert not fitted & kept


def test_the_photographs_of_tests_are_neither_fitted_nor_calibrated_on() -> None:
    names = [f"picture{i}" for i in range(400)]
    assert 8 < len(photos.tests(names)) < 50
    assert not photos.tests(names) & held_out(names)
    assert photos.tests(names[::-1]) == photos.tests(names)


def test_about_a_twelfth_is_held_out_and_two_of_a_small_collection() -> None:
    names = [f"picture{i}" for i in range(400)]
    assert 10 < len(held_out(names)) < 60
    assert len(held_out(names[:5])) == 2
    assert held_out(names[::-1]) == held_out(names)


def test_a_folder_without_photographs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--photos"):
        PhotoPool.scan([tmp_path])


def test_the_contact_sheet_is_written(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "sheet.png"
    arguments = ["--photos", str(photo_folder / "photos"), "--sheet", str(target), "--rows", "1", "--size", "64"]
    assert contact.main(arguments) == 0
    assert target.stat().st_size > 1000
    assert "4 samples of 12 photographs" in capsys.readouterr().out


def test_the_rate_of_making_samples_is_printed_for_every_network(
    photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contact.main(["--photos", str(photo_folder / "photos"), "--rate", "--samples", "2", "--size", "64"]) == 0
    said = capsys.readouterr().out
    rates = dict(line.split() for line in said.splitlines()[1:])
    assert set(rates) == {"correlation", "difference", "embedder", "pair_kind", "web_iml"}
    assert all(float(rate) > 0 for rate in rates.values())


def test_neither_sheet_nor_rate_is_refused_with_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        contact.main([])
    assert "--sheet PNG" in capsys.readouterr().err


def test_a_part_of_which_enough_changed_counts_whole_and_of_another_only_that() -> None:
    mask, seen = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    mask[2:12, 2:12] = mask[20:40, 20:40] = True
    seen[2:12, 2:8] = seen[20:25, 20:25] = True
    found = samples.apparent(mask, seen)
    assert found[:15, :15].sum() == 100
    assert found[15:, 15:].sum() == 25


def test_an_object_is_marked_where_its_map_puts_it(pool: PhotoPool) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        host, donor = objects.different_scenes(pool, rng, SIZE, 2)
        made = objects.paste_object(rng, host, donor)
        laid = cv2.warpPerspective(made.cut.astype(np.float32), made.homography, (SIZE, SIZE)) > 0.5
        assert (laid == made.mask).mean() > 0.98


def test_an_aligned_object_looks_like_its_donor_inside_the_mask_and_like_nothing_outside(pool: PhotoPool) -> None:
    inside, outside = [], []
    for index in range(24):
        sample = objects.object_sample(pool, 3, index, SIZE)
        if sample.mask.sum() < 200:
            continue
        difference = np.abs(sample.upload.astype(int) - sample.original.astype(int)).mean(axis=2)
        inside.append(difference[sample.mask].mean())
        outside.append(difference[sample.valid & ~sample.mask].mean())
    assert np.mean(inside) < 0.7 * np.mean(outside)


def test_some_maps_of_objects_are_chance_and_mark_nothing(pool: PhotoPool) -> None:
    empty = [not objects.object_sample(pool, 4, index, SIZE).mask.any() for index in range(60)]
    assert 2 <= sum(empty) <= 30


@pytest.mark.parametrize("kind", ["spg", "sdg", "unrelated"])
def test_a_case_is_the_same_for_the_same_numbers_and_of_its_kind(kind: pairs.Kind, pool: PhotoPool) -> None:
    for index in range(4):
        first, second = (pairs.case(pool, 5, index, kind=kind, side=SIZE) for _ in range(2))
        np.testing.assert_array_equal(first.upload, second.upload)
        np.testing.assert_array_equal(first.mask, second.mask)
        assert first.kind == kind
        assert first.mask.shape == first.upload.shape[:2]
        assert first.original_mask.shape == first.original.shape[:2]
        assert (first.homography is None) == (kind == "unrelated")
        assert first.original_mask.any() == (kind == "sdg")


def test_the_map_of_a_case_lays_its_original_onto_its_upload(pool: PhotoPool) -> None:
    """Outside of the edit the two then show the same, up to saves and colours: they correlate."""
    correlations = []
    for index in range(16):
        case = pairs.case(pool, 6, index, kind="spg", side=SIZE)
        size = case.upload.shape[1::-1]
        assert case.homography is not None
        laid = cv2.warpPerspective(case.original, case.homography, size).astype(float)
        covered = cv2.warpPerspective(np.ones(case.original.shape[:2], np.uint8), case.homography, size) > 0
        same = covered & ~case.mask
        correlations.append(np.corrcoef(laid[same].ravel(), case.upload[same].astype(float).ravel())[0, 1])
    assert np.median(correlations) > 0.9
