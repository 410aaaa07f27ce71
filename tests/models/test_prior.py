"""Prior features: correlated, denoised, turned into points, and asked for by a setting. All weights here are random:
a random network tells equal patches from others too, and nothing is fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model_archive.handlers.analysis import DINOV2_WEIGHTS, Model, constrained_model, prior_from
from model_archive.handlers.pairing import prepared_pair
from model_archive.handlers.results import PairRequest
from model_archive.networks import prior
from model_archive.networks.pair_kind import KINDS
from model_archive.networks.prior import PATCH, PriorFeatures, consistent, correlate, denoised, prior_matches
from services.core import alignment
from services.core.alignment import Floats, Matrix, Pixels
from services.core.errors import Broken
from services.core.pixels import open_image
from services.core.placement import place_objects, resize_map
from tests.models.conftest import textured

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
SIDE = 18 * PATCH
FIRST, SECOND = (8, 9), (20, 22)
"""Patches of the two pictures that matches are made up for."""

Pairs = dict[tuple[int, int], tuple[int, int]]
"""Matches by (row, column) in the first picture and in the second."""


def small() -> nn.Module:
    """DINOv2's architecture with one narrow block."""
    import timm

    torch.manual_seed(0)
    options = {"num_classes": 0, "dynamic_img_size": True, "depth": 1, "embed_dim": 64, "num_heads": 1}
    network: nn.Module = timm.create_model(prior.ARCHITECTURE, pretrained=False, **options)
    return network


@pytest.fixture(scope="module")
def features() -> PriorFeatures:
    return PriorFeatures(small(), "0" * 64)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that fits DINOv2 as it is used, with random weights."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(0)
    save_file({name: value.half() for name, value in prior.dinov2().state_dict().items()}, path)
    return path


def indices(pairs: Pairs) -> Tensor:
    """[M,2] int64, in rising order."""
    found = [(y * FIRST[1] + x, down * SECOND[1] + across) for (y, x), (down, across) in pairs.items()]
    return torch.tensor(sorted(found))


def similarity(pairs: Pairs, rivals: Iterable[tuple[tuple[int, int], tuple[int, int]]] = ()) -> Tensor:
    """Nothing is alike but the pairs (0.9), and rivals a little less (0.89)."""
    made = torch.zeros(FIRST[0] * FIRST[1], SECOND[0] * SECOND[1])
    for (y, x), (down, across) in rivals:
        made[y * FIRST[1] + x, down * SECOND[1] + across] = 0.89
    for row, column in indices(pairs):
        made[row, column] = 0.9
    return made


def group(*, turn: int = 0, scale: float = 1.0) -> Pairs:
    """The patches of a square of 5 x 5 laid elsewhere, turned by degrees and resized."""
    move = scale * np.exp(1j * np.deg2rad(turn))
    placed = {(y, x): 10 + 10j + move * complex(x - 3, y - 3) for y in range(1, 6) for x in range(1, 6)}
    return {patch: (round(place.imag), round(place.real)) for patch, place in placed.items()}


# -- features ------------------------------------------------------------------------------------------------------


def test_every_patch_has_a_feature_of_length_one(features: PriorFeatures) -> None:
    found = features(torch.rand(2, 3, 3 * PATCH, 5 * PATCH))
    assert found.shape == (2, 64, 3, 5)
    assert torch.allclose(found.norm(dim=1), torch.ones(2, 3, 5), atol=1e-5)


def test_features_are_frozen(features: PriorFeatures) -> None:
    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_a_picture_that_ends_within_a_patch_is_refused(features: PriorFeatures) -> None:
    with pytest.raises(ValueError, match="no whole patches"):
        features(torch.rand(1, 3, 3 * PATCH, 5 * PATCH + 1))


# -- correlation ---------------------------------------------------------------------------------------------------


def test_correlation_of_identical_features_peaks_on_the_diagonal() -> None:
    made = torch.randn(16, 5, 6, generator=torch.Generator().manual_seed(0))
    found = correlate(made, made)
    assert found.shape == (30, 30)
    assert torch.equal(found.argmax(dim=1), torch.arange(30))
    assert torch.allclose(found.diagonal(), torch.ones(30), atol=1e-5)


def test_what_all_patches_of_a_picture_share_does_not_count() -> None:
    first, second = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    shared = torch.full((16, 1, 1), 5.0)
    assert torch.allclose(correlate(first + shared, second), correlate(first, second), atol=1e-5)


def test_a_flat_picture_is_like_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    flat = 0.25 + 1e-7 * torch.randn(16, 4, 4, generator=generator)
    assert correlate(flat, torch.randn(16, 4, 4, generator=generator)).abs().max() < 0.01


# -- denoising -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("turn", "scale"), [(0, 1.0), (0, 2.0), (35, 1.0), (-70, 1.4), (180, 1.0)], ids=str)
def test_a_consistent_group_stays_and_an_isolated_match_goes(turn: int, scale: float) -> None:
    object_moved = group(turn=turn, scale=scale)
    assert torch.equal(denoised(similarity(object_moved), FIRST, SECOND), indices(object_moved))
    chance = {(7, 8): (1, 1)}
    assert torch.equal(denoised(similarity(object_moved | chance), FIRST, SECOND), indices(object_moved))


def test_a_false_match_amidst_a_group_goes_alone() -> None:
    true = group()
    false = true | {(3, 3): (19, 0)}
    left = {patch: place for patch, place in true.items() if patch != (3, 3)}
    assert torch.equal(denoised(similarity(false), FIRST, SECOND), indices(left))


def test_a_match_with_a_rival_elsewhere_goes() -> None:
    true = group()
    left = {patch: place for patch, place in true.items() if patch != (3, 3)}
    rival = [((3, 3), (18, 18))]
    assert torch.equal(denoised(similarity(true, rival), FIRST, SECOND), indices(left))


def test_a_patch_beside_the_best_is_no_rival() -> None:
    row, column = group()[3, 3]
    beside = [((3, 3), (row + 1, column - 1))]
    assert torch.equal(denoised(similarity(group(), beside), FIRST, SECOND), indices(group()))


def test_a_match_that_is_not_mutual_goes() -> None:
    true = group()
    made = similarity(true)
    made[7 * FIRST[1] + 3, indices(true)[0, 1]] = 0.5  # (7, 3) likes a place best that another patch likes more
    assert torch.equal(denoised(made, FIRST, SECOND), indices(true))


def test_random_matches_hardly_ever_stay() -> None:
    side = (16, 16)
    kept = 0
    for seed in range(20):
        shuffled = torch.randperm(256, generator=torch.Generator().manual_seed(seed))
        kept += len(consistent(torch.stack([torch.arange(256), shuffled], dim=1), side, side))
    assert kept < 0.05 * 20 * 256


def test_nothing_to_denoise_is_no_error() -> None:
    assert denoised(torch.zeros(72, 440), FIRST, SECOND).shape == (0, 2)
    assert consistent(torch.zeros((0, 2), dtype=torch.int64), FIRST, SECOND).shape == (0, 2)


# -- matches of pictures -------------------------------------------------------------------------------------------


def test_a_crop_moved_into_another_picture_is_matched_with_its_displacement(features: PriorFeatures) -> None:
    original, upload = (textured(np.random.default_rng(seed), SIDE) for seed in (1, 2))
    upload[7 * PATCH : 15 * PATCH, 6 * PATCH : 14 * PATCH] = original[2 * PATCH : 10 * PATCH, 4 * PATCH : 12 * PATCH]
    source, target = prior_matches(features, original, upload, side=SIDE)
    assert source.dtype == target.dtype == np.float32
    moved = (target - source == np.float32([2 * PATCH, 5 * PATCH])).all(axis=1)
    assert moved.sum() >= 40  # of the 64 patches that were moved
    assert moved.mean() > 0.95


def test_points_are_those_of_the_full_pictures(features: PriorFeatures) -> None:
    reduced = textured(np.random.default_rng(1), SIDE)[: 14 * PATCH]
    full = np.repeat(np.repeat(reduced, 2, axis=0), 2, axis=1)
    source, target = prior_matches(features, full, reduced, side=SIDE)
    assert len(source) > 20
    assert np.abs(source).max() > SIDE
    off = alignment.mapped(resize_map(full, reduced), source) - target
    assert np.abs(off).max() < 1e-3


def test_flat_pictures_have_no_matches(features: PriorFeatures) -> None:
    flat = np.full((90, 120, 3), 128, np.uint8)
    source, target = prior_matches(features, flat, textured(np.random.default_rng(1), 120), side=SIDE)
    assert source.shape == target.shape == (0, 2)


# -- objects from coarse matches -----------------------------------------------------------------------------------


def picture(name: str) -> Pixels:
    return open_image((SAMPLES / "originals" / f"{name}.jpg").read_bytes(), max_side=640).rgb


def coarse_matches(homography: Matrix, box: tuple[int, int, int, int], patch: float) -> tuple[Floats, Floats]:
    """What a prior knows of a box x0, y0, x1, y1 of the original: which patch of the upload each of its patches is."""
    x, y = (np.arange(box[at] + patch / 2, box[at + 2], patch) for at in (0, 1))
    source = np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2).astype(np.float32)
    target = (np.floor(alignment.mapped(homography, source) / patch) + 0.5) * patch
    return source, target.astype(np.float32)


def blurred_object() -> tuple[Pixels, Pixels, Matrix, tuple[Floats, Floats]]:
    """An original, an upload with a blurred part of it, the part's map, and a prior's matches of it."""
    original, upload = picture("lighthouse"), picture("giraffe").copy()
    x, y = original.shape[1] // 2 - 50, original.shape[0] // 2 - 50
    upload[61:161, 203:303] = cv2.GaussianBlur(original[y : y + 100, x : x + 100], (0, 0), 2)
    true = np.array([[1.0, 0, 203 - x], [0, 1.0, 61 - y], [0, 0, 1]])
    return original, upload, true, coarse_matches(true, (x, y, x + 100, y + 100), 17.3)


def test_coarse_matches_find_an_object_that_local_features_miss_to_a_pixel() -> None:
    original, upload, true, extra = blurred_object()
    assert place_objects(original, upload) == ()
    (found,) = place_objects(original, upload, extra)
    assert not found.mirrored
    off = alignment.mapped(found.homography, extra[0]) - alignment.mapped(true, extra[0])
    assert np.linalg.norm(off, axis=1).max() < 1.0


def test_coarse_matches_that_the_pixels_do_not_bear_out_find_nothing() -> None:
    _, upload, _, extra = blurred_object()
    assert place_objects(picture("sign"), upload, extra) == ()


def test_coarse_matches_of_an_object_already_found_do_not_find_it_again() -> None:
    upload = open_image((SAMPLES / "uploads" / "desert-giraffe.jpg").read_bytes(), max_side=640).rgb
    known = place_objects(picture("giraffe"), upload)
    x, y = alignment.mapped(np.linalg.inv(known[0].homography), known[0].points).mean(axis=0).astype(int)
    extra = coarse_matches(known[0].homography, (x - 60, y - 60, x + 60, y + 60), 17.3)
    again = place_objects(picture("giraffe"), upload, extra)
    assert len(again) == len(known)


def test_no_coarse_matches_change_nothing() -> None:
    nothing = np.zeros((0, 2), np.float32)
    original, upload, _, _ = blurred_object()
    assert place_objects(original, upload, (nothing, nothing)) == ()


# -- weights and the setting ---------------------------------------------------------------------------------------


def test_weights_of_the_architecture_are_loaded_and_their_hash_is_known(tmp_path: Path) -> None:
    path, network = tmp_path / "weights.safetensors", small()
    save_file(network.state_dict(), path)
    loaded = prior.load(path, small)
    rgb = torch.rand(1, 3, 3 * PATCH, 3 * PATCH)
    assert torch.equal(loaded(rgb), PriorFeatures(network, "")(rgb))
    assert len(loaded.sha256) == 64


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"nowhere\.safetensors holds no prior features.*Name a safetensors file"):
        prior_from({DINOV2_WEIGHTS: str(tmp_path / "nowhere.safetensors")})


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickled.pth"
    torch.save(small().state_dict(), path)
    with pytest.raises(Broken, match=r"pickled\.pth holds no prior features"):
        prior.load(path, small)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "other size"])
def test_weights_of_another_network_are_refused(fault: str, tmp_path: Path) -> None:
    weights = small().state_dict()
    if fault == "missing":
        del weights["norm.weight"]
    elif fault == "unexpected":
        weights["mask_token"] = torch.zeros(1, 64)
    else:
        weights["norm.weight"] = torch.zeros(32)
    path = tmp_path / "other.safetensors"
    save_file(weights, path)
    with pytest.raises(Broken, match=r"other\.safetensors does not fit vit_small_patch14_dinov2"):
        prior.load(path, small)


@pytest.mark.parametrize("environment", [{}, {DINOV2_WEIGHTS: ""}], ids=["unset", "empty"])
def test_without_the_setting_there_is_no_prior(environment: dict[str, str]) -> None:
    assert prior_from(environment) is None


@pytest.fixture(scope="module")
def with_prior(whole_file: Path) -> Model[PairRequest]:
    return constrained_model(environment={DINOV2_WEIGHTS: str(whole_file)})


def test_a_prior_makes_another_version(with_prior: Model[PairRequest]) -> None:
    plain = constrained_model(environment={})
    assert with_prior.version != plain.version
    assert with_prior.version.split("+")[0] == plain.version.split("+")[0]


def test_a_path_given_wins_over_the_environment(with_prior: Model[PairRequest], whole_file: Path) -> None:
    asked = constrained_model(prior=whole_file, environment={DINOV2_WEIGHTS: "/nowhere"})
    assert asked.version == with_prior.version


class AlwaysObject(nn.Module):
    """A classifier of pairs that takes each for an object pasted elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[20.0 * (kind == "sdg") for kind in KINDS]]).expand(len(x), -1)


def test_a_pair_with_an_object_is_prepared_with_a_prior(features: PriorFeatures) -> None:
    upload, original = (SAMPLES / "uploads" / "desert-giraffe.jpg", SAMPLES / "originals" / "giraffe.jpg")
    request = PairRequest(upload.read_bytes(), original.read_bytes())
    prepared = prepared_pair(request, AlwaysObject(), 640, features)
    assert prepared.kind == "sdg"
    assert prepared.x is not None


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != DINOV2_WEIGHTS}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_the_setting_timm_is_not_imported() -> None:
    done = run(
        "import sys\n"
        "from model_archive.handlers.analysis import constrained_model\n"
        "constrained_model()\n"
        "print('timm' in sys.modules, 'torchvision' in sys.modules)"
    )
    assert (done.stdout.strip(), done.returncode) == ("False False", 0), done.stderr


def test_the_model_server_does_not_start_where_the_file_is_missing() -> None:
    done = run(
        "from pathlib import Path\n"
        "from model_archive.card import FOLDER\n"
        "from model_archive.handlers.constrained import Constrained\n"
        "from model_archive.handlers.probe import LocalContext\n"
        "Constrained().initialize(LocalContext({}, {'model_dir': str(FOLDER)}))",
        **{DINOV2_WEIGHTS: "/nowhere/model.safetensors"},
    )
    assert done.returncode == 1
    assert "Broken: /nowhere/model.safetensors holds no prior features" in done.stderr
