"""Hard examples: which samples are drawn again, when, and that a fit with them is repeatable and resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from model_archive.networks import registry
from trainer.data import SampleStream, batches
from trainer.feed import Feed
from trainer.fit import FitSettings, fit
from trainer.fit_settings import Mining
from trainer.mining import HardExamples
from trainer.processes import Crew
from trainer.scoring import twin_losses
from trainer.synthesis.photos import PhotoPool

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

QUIET = Console(quiet=True)
MINING = Mining(share=0.5, every=2, pool=4, keep=0.5)


@pytest.fixture
def settings(photo_folder: Path, tmp_path: Path) -> FitSettings:
    return FitSettings(
        network="difference",
        photos=(photo_folder / "photos",),
        out=tmp_path / "mined.safetensors",
        steps=6,
        batch=2,
        size=64,
        workers=0,
        warmup_steps=1,
        checkpoint_every=3,
        calibration_samples=2,
        mining=MINING,
    )


def learnt(mining: Mining, hard_pairs: list[int]) -> HardExamples:
    """As after round 0 in which these were the hardest pairs."""
    hard = HardExamples(mining, seed=1, pictures_a_step=4)
    indices = np.array([[2 * pair, 2 * pair + 1] for pair in hard_pairs]).ravel()
    hard.learn(mining.every, indices, np.arange(len(hard_pairs), 0, -1.0))
    return hard


def test_nothing_is_drawn_again_where_mining_is_off_or_nothing_is_known_yet() -> None:
    off = learnt(Mining(share=0.0), [3, 5])
    unknowing = HardExamples(MINING, seed=1, pictures_a_step=4)
    for hard in (off, unknowing):
        assert [hard.drawn(index) for index in range(40)] == list(range(40))


def test_what_a_round_finds_hard_comes_back_two_rounds_later_in_the_share_that_was_asked_for() -> None:
    mining = Mining(share=0.25, every=500, pool=8, keep=0.5)
    hard = learnt(mining, [7, 11, 1, 2])
    a_round = 500 * 4
    for other in (1, 3):
        assert [hard.drawn(i) for i in range(other * a_round, other * a_round + 200)] == list(
            range(other * a_round, other * a_round + 200)
        )
    drawn = np.array([hard.drawn(index) for index in range(2 * a_round, 3 * a_round)])
    again = drawn < a_round
    assert set(drawn[again] // 2) == {7, 11}
    assert again.mean() == pytest.approx(0.25, abs=0.04)


def test_twins_are_drawn_again_together_and_side_by_side() -> None:
    hard = learnt(Mining(share=0.5, every=10, pool=8, keep=1.0), [7, 11, 1, 2])
    drawn = [hard.drawn(index) for index in range(80, 120)]
    assert all(first % 2 == 0 and second == first + 1 for first, second in zip(drawn[::2], drawn[1::2], strict=True))
    assert any(first < 80 for first in drawn)


def test_a_pool_is_of_the_round_that_ended_and_the_same_for_the_same_seed() -> None:
    hard = HardExamples(Mining(share=0.5, every=10, pool=12), seed=1, pictures_a_step=4)
    pool = hard.pool(30)
    assert pool.min() >= 80
    assert pool.max() < 120
    assert len(set(pool.tolist())) == 12
    np.testing.assert_array_equal(pool, HardExamples(hard.mining, seed=1, pictures_a_step=4).pool(30))
    assert not np.array_equal(pool, HardExamples(hard.mining, seed=2, pictures_a_step=4).pool(30))


def test_a_round_that_is_shorter_than_the_pool_is_scored_whole() -> None:
    hard = HardExamples(Mining(share=0.5, every=1, pool=12), seed=1, pictures_a_step=4)
    assert sorted(hard.pool(3)) == [8, 9, 10, 11]
    hard.learn(3, hard.pool(3), np.array([1.0, 2.0]))
    assert (hard.tables[0] >= 0).sum() == 1


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_the_loss_of_twins_does_not_depend_on_the_batches_they_come_in(
    batch: int, settings: FitSettings, pool: PhotoPool
) -> None:
    torch.manual_seed(0)
    network = registry.build("web_iml")
    losses = []
    for size in (batch, 2):
        stream = SampleStream("web_iml", pool, seed=3, size=64, batch=size)
        losses.append(twin_losses(settings, network, iter(stream), 3, "cpu"))
    assert network.training
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
def test_makers_draw_the_same_again_as_this_process(workers: int, settings: FitSettings, pool: PhotoPool) -> None:
    crew = Crew("cpu")
    streams = []
    for makers in (0, workers):
        hard = HardExamples(settings.mining, seed=settings.seed, pictures_a_step=2)
        hard.learn(2, np.array([0, 1, 2, 3]), np.array([1.0, 2.0]))
        feed = Feed(replace(settings, workers=makers), pool, crew, hard, first_step=4)
        streams.append((feed, batches(feed, workers=makers)))
    for _ in range(4):
        one, two = (next(stream) for _, stream in streams)
        assert torch.equal(one.x, two.x)
    assert all(feed.rate() > 0 for feed, _ in streams)


def test_mining_changes_a_fit(settings: FitSettings) -> None:
    fit(settings, QUIET)
    plain = replace(settings, mining=Mining(), out=settings.out.with_name("plain.safetensors"))
    fit(plain, QUIET)
    mined, unmined = load_file(settings.out), load_file(plain.out)
    assert [name for name, value in mined.items() if not torch.equal(value, unmined[name])]


class Interrupted(Exception):
    """Stands for whatever ends a fit half way."""


class StopAt(Console):
    """Breaks off when a text is said."""

    def __init__(self, text: str) -> None:
        super().__init__(quiet=True)
        self.text = text

    def print(self, *said: Any, **how: Any) -> None:
        if said and str(said[0]).startswith(self.text):
            raise Interrupted


@pytest.mark.parametrize(("workers", "every", "steps"), [(0, 2, 6), (1, 3, 8)])
def test_a_resumed_fit_with_mining_ends_with_the_same_weights_as_an_unbroken_one(
    workers: int, every: int, steps: int, settings: FitSettings
) -> None:
    """At a stretch, and broken off at step 3; what was hard in round 0 is drawn in round 2, after that."""
    settings = replace(settings, steps=steps, mining=replace(MINING, every=every))
    fit(settings, QUIET)
    unbroken = load_file(settings.out)
    broken = replace(settings, workers=workers, out=settings.out.with_name("broken.safetensors"))
    with pytest.raises(Interrupted):
        fit(broken, StopAt("step 3"))
    assert torch.load(broken.checkpoint, weights_only=True)["step"] == 3
    fit(replace(broken, resume=True), QUIET)
    resumed = load_file(broken.out)
    assert [name for name, value in unbroken.items() if not torch.equal(value, resumed[name])] == []


def test_a_checkpoint_of_another_number_of_pictures_a_step_is_refused(settings: FitSettings) -> None:
    fit(replace(settings, steps=1), QUIET)
    with pytest.raises(ValueError, match="took 2 pictures a step, these settings take 4"):
        fit(replace(settings, accumulate=2, resume=True), QUIET)
