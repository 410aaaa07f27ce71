"""Fitting: schedule, loss, calibration, and that an interrupted fit ends where an unbroken one does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file

from model_archive import preprocess, weights
from model_archive.networks.blocks import Localisation
from model_archive.networks.registry import GRANULE
from services.core.errors import Broken
from services.core.pixels import open_image
from trainer import calibrate, schedule
from trainer.data import Batch, SampleStream, batches
from trainer.fit import FitSettings, Surroundings, fit, loop, started
from trainer.loss import LossWeights, dice, localisation_loss
from trainer.processes import Crew
from trainer.synthesis.photos import PhotoPool


@pytest.fixture
def settings(photo_folder: Path, tmp_path: Path) -> FitSettings:
    return FitSettings(
        network="difference",
        photos=(photo_folder / "photos",),
        out=tmp_path / "fitted.safetensors",
        steps=4,
        batch=2,
        size=48,
        workers=0,
        warmup_steps=1,
        checkpoint_every=2,
        calibration_samples=2,
    )


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero() -> None:
    rates = [schedule.rate(step / 100, step, peak=1.0, warmup_steps=10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[100] == 0.0


def test_a_perfect_mask_costs_less_than_a_doubtful_one_and_that_less_than_a_wrong_one() -> None:
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:9, 4:9] = 1.0
    costs = []
    for sureness in (9.0, 0.1, -9.0):
        logits = (mask * 2 - 1) * sureness
        image = torch.tensor([sureness, -sureness])
        coarse = torch.nn.functional.avg_pool2d(logits, 4)
        costs.append(float(localisation_loss(Localisation(logits, image, coarse), mask, LossWeights())))
    assert costs[0] < costs[1] < costs[2]


def test_dice_counts_forged_pictures_only() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :4] = 1.0
    logits = (mask * 2 - 1) * 20.0
    logits[1] = 20.0
    assert float(dice(logits, mask)) < 0.02
    assert float(dice(logits[1:], mask[1:])) == 0.0


def test_calibration_recovers_a_known_temperature_and_bias() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(-logits / 2.0))
    slope, bias = calibrate.platt(logits, positive)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert bias == pytest.approx(0.0, abs=0.05)


class Interrupted(Exception):
    """Stands for whatever ends a fit half way."""


def interrupted(stream: Iterator[Batch], after: int) -> Iterator[Batch]:
    """A stream that breaks off."""
    yield from islice(stream, after)
    raise Interrupted


def test_a_resumed_fit_ends_with_the_same_weights_as_an_unbroken_one(settings: FitSettings, quiet: Console) -> None:
    fit(settings, quiet)
    unbroken = load_file(settings.out)
    broken = replace(settings, out=settings.out.with_name("broken.safetensors"))
    torch.manual_seed(settings.seed)
    stream = SampleStream(
        "difference", PhotoPool.scan(settings.photos), seed=settings.seed, size=settings.size, batch=settings.batch
    )
    crew = Crew("cpu")
    with pytest.raises(Interrupted), Progress(console=quiet) as bar:
        loop(broken, started(broken, crew), interrupted(iter(stream), 3), Surroundings(crew, bar))
    fit(replace(broken, resume=True), quiet)
    resumed = load_file(broken.out)
    assert [name for name, value in unbroken.items() if not torch.equal(value, resumed[name])] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_make_the_same_batches_in_the_same_order_as_this_one(pool: PhotoPool, workers: int) -> None:
    stream = SampleStream("web_iml", pool, seed=3, size=48, batch=2, first_step=5)
    here, there = batches(stream, workers=0), batches(stream, workers=workers)
    for _ in range(4):
        one, two = next(here), next(there)
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.target, two.target)


@pytest.mark.parametrize("network", ["correlation", "pair_kind"])
def test_every_network_of_the_pair_model_can_be_fitted(network: str, settings: FitSettings, quiet: Console) -> None:
    small = replace(settings, network=network, steps=2, out=settings.out.with_name(f"{network}.safetensors"))
    assert fit(small, quiet).network == network
    assert weights.load(small.out).card.steps == 2


def test_a_fit_leaves_a_sheet_of_what_it_makes_of_held_out_samples(settings: FitSettings, quiet: Console) -> None:
    fit(settings, quiet)
    sheet = cv2.imread(str(settings.sheet))
    assert sheet is not None
    assert sheet.shape == (8 * settings.size, 4 * settings.size, 3)


def test_fitted_weights_know_their_seed_code_data_and_command(settings: FitSettings, quiet: Console) -> None:
    fit(replace(settings, steps=1, command="python -m trainer.fit difference"), quiet)
    loaded = weights.load(settings.out)
    assert loaded.card.seed == settings.seed
    assert len(loaded.card.code_sha256) == len(loaded.card.data_sha256) == 64
    assert loaded.card.command == "python -m trainer.fit difference"
    assert loaded.version.startswith("0.1.0+")


def test_a_warm_start_begins_at_the_fitted_weights_and_says_so_on_the_card(
    settings: FitSettings, quiet: Console, tmp_path: Path
) -> None:
    first = fit(settings, quiet)
    champion = weights.load(settings.out)
    warm = replace(settings, start_from=settings.out, out=tmp_path / "warm.safetensors")
    begun = started(warm, Crew("cpu")).network.state_dict()
    assert all(torch.equal(value, begun[name]) for name, value in champion.network.state_dict().items())
    card = fit(warm, quiet)
    assert (first.started_from, card.started_from) == ("", champion.version)


def test_a_warm_start_from_another_network_is_refused(settings: FitSettings, quiet: Console, tmp_path: Path) -> None:
    fit(settings, quiet)
    other = replace(settings, network="pair_kind", start_from=settings.out, out=tmp_path / "other.safetensors")
    with pytest.raises(Broken, match="holds difference, not pair_kind"):
        started(other, Crew("cpu"))


class Marks(torch.nn.Module):
    """Gives every pixel its first channel, 0..1, as a logit."""

    def forward(self, x: torch.Tensor) -> Localisation:
        return Localisation(x[:, :1], x.mean((1, 2, 3)), x[:, :1])


@pytest.mark.parametrize(("budget", "left"), [(0.25, 0.25), (0.1, 0.1), (0.0, 0.0)])
def test_the_mask_bias_leaves_just_the_budget_of_authentic_pixels_flagged(budget: float, left: float) -> None:
    x = np.linspace(0.005, 0.995, 100, dtype=np.float32).reshape(1, 10, 10)
    bias = calibrate.mask_bias(Marks(), [x, x], budget)
    assert (x + bias > 0).mean() == pytest.approx(left, abs=0.011)


def test_photographs_of_the_budget_are_whole_and_with_what_their_files_tell(pool: PhotoPool) -> None:
    for photo, x in zip(pool.photos, islice(calibrate.photograph_inputs(pool), 2), strict=False):
        picture = open_image(photo.path.read_bytes())
        assert np.array_equal(x, preprocess.padded(preprocess.single_input(picture.rgb, picture.jpeg_steps), GRANULE))
