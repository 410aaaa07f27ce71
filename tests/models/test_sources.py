"""Fits on frozen samples: the mix, its twins, and that a fit that was cut off ends as an unbroken one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file

from model_archive import weights
from services.core.errors import Broken
from services.core.learn.shards import Member, digest, index_file, pack, shard_key
from services.core.pixels import encode_png
from tests.models.conftest import textured
from tests.models.test_fit import Interrupted, interrupted
from trainer.feed import Feed, feed
from trainer.fit import FitSettings, Surroundings, fit, loop, started
from trainer.fit_settings import parsed
from trainer.mining import HardExamples
from trainer.processes import Crew
from trainer.samples.reading import Place, places
from trainer.sources import Mixed, only, source, window
from trainer.synthesis.photos import PhotoPool

SIZE = 48
VERSION = "ds-0123456789ab"
RED = (255, 0, 0)

Freeze = Callable[..., Path]


@pytest.fixture
def frozen(tmp_path: Path) -> Freeze:
    """Writes a version with so many forged and authentic samples of 96 x 128 pixels: a red box is what was edited."""

    def write(forged: int = 4, authentic: int = 2, *, everywhere: bool = False) -> Path:
        members = [
            _member(number, marked=number < forged, everywhere=everywhere) for number in range(forged + authentic)
        ]
        data, key = pack(members), shard_key(VERSION, "train", 0)
        shard = {"object_key": key, "split": "train", "sha256": digest(data), "samples": len(members)}
        index_key, listed, _ = index_file({"version": VERSION, "shards": [shard]})
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data)
        (tmp_path / index_key).write_bytes(listed)
        return tmp_path

    return write


def _member(number: int, *, marked: bool, everywhere: bool) -> Member:
    picture = textured(np.random.default_rng(100 + number), 128)[:96].copy()
    picture[..., 0] //= 2  # nothing is red but what is edited
    mask = np.zeros((96, 128), np.uint8)
    box = (slice(0, 96), slice(0, 128)) if everywhere else (slice(8, 32), slice(16, 56))
    if marked:
        picture[box], mask[box] = RED, 255
    kind = "spg" if marked else "authentic"
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return Member(jpeg.tobytes(), encode_png(mask), {"id": f"s{number}", "format": "JPEG", "kind": kind})


def found(root: Path) -> list[Place]:
    return places(root, VERSION, "train")


def red(x: np.ndarray) -> np.ndarray:
    """Where an input [4,S,S] is red."""
    return np.asarray((x[0] > 0.8) & (x[1] < 0.3))


def test_a_sample_and_its_twin_are_one_picture_where_it_was_edited_and_where_not(
    frozen: Freeze, pool: PhotoPool
) -> None:
    mixed = Mixed(found(frozen()), only(("splice",)), 1.0)
    for pair in range(12):
        (x, mask), (twin, none) = mixed(pool, 1, 2 * pair, SIZE), mixed(pool, 1, 2 * pair + 1, SIZE)
        assert x.shape == twin.shape == (4, SIZE, SIZE)
        assert red(x)[mask].mean() > 0.8
        assert red(x)[~mask].mean() < 0.1
        assert not none.any()
        assert not red(twin).any()


def test_the_share_of_pairs_comes_from_samples_and_the_rest_is_generated(frozen: Freeze, pool: PhotoPool) -> None:
    made = only(("splice",))
    mixed = Mixed(found(frozen()), made, 0.5)
    same = [np.array_equal(mixed(pool, 1, index, SIZE)[0], made(pool, 1, index, SIZE)[0]) for index in range(80)]
    assert same[::2] == same[1::2]  # twins come from one source
    assert 0.3 < np.mean(same) < 0.7


def test_where_nothing_is_left_unedited_and_nothing_authentic_the_twin_is_generated(
    frozen: Freeze, pool: PhotoPool
) -> None:
    made = only(("splice",))
    mixed = Mixed(found(frozen(authentic=0, everywhere=True)), made, 1.0)
    twin, none = mixed(pool, 1, 1, SIZE)
    assert np.array_equal(twin, made(pool, 1, 1, SIZE)[0])
    assert not none.any()


def test_a_window_on_the_files_own_grid_keeps_what_the_file_tells(frozen: Freeze) -> None:
    place = found(frozen())[0]
    cuts = [window(np.random.default_rng(seed), place, SIZE, marked=True) for seed in range(30)]
    told = [steps for cut in cuts if cut is not None for steps in [cut[1]]]
    own = max(set(told), key=told.count)
    assert own is not None
    assert len(own) == 64
    assert told.count(own) >= 15


def test_a_small_picture_is_enlarged(frozen: Freeze) -> None:
    cut = window(np.random.default_rng(0), found(frozen())[0], 160, marked=True)
    assert cut is not None
    assert cut[0].shape == (160, 160, 3)


def test_a_dataset_without_forgeries_or_without_a_shard_is_refused(frozen: Freeze) -> None:
    root = frozen(forged=0)
    settings = FitSettings(network="web_iml", photos=(), dataset=VERSION, objects=root)
    with pytest.raises(Broken, match="no forged sample"):
        source(settings)
    shard = root / shard_key(VERSION, "train", 0)
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(Broken, match="not the one that was frozen"):
        source(settings)
    with pytest.raises(Broken, match="does not hold all of dataset version ds-0"):
        source(replace(settings, dataset="ds-0"))


@pytest.mark.parametrize("words", [["--dataset", VERSION], ["--kind", "splice"]])
def test_networks_that_compare_pairs_take_no_samples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["difference", *words])
    assert "which look at single pictures" in capsys.readouterr().err


@pytest.fixture
def settings(frozen: Freeze, photo_folder: Path, tmp_path: Path) -> FitSettings:
    return FitSettings(
        network="web_iml",
        photos=(photo_folder / "photos",),
        dataset=VERSION,
        objects=frozen(),
        out=tmp_path / "fitted.safetensors",
        steps=4,
        batch=4,
        size=SIZE,
        workers=0,
        warmup_steps=1,
        checkpoint_every=2,
        calibration_samples=2,
    )


def test_sample_makers_make_the_same_mix_as_this_process(settings: FitSettings, pool: PhotoPool) -> None:
    def stream(workers: int) -> list[torch.Tensor]:
        makers = replace(settings, workers=workers)
        hard = HardExamples(settings.mining, seed=1, pictures_a_step=4)
        made = feed(Feed(makers, pool, Crew("cpu"), hard), workers=workers, device="cpu")
        return [batch.x for batch in islice(made, 3)]

    assert all(torch.equal(here, there) for here, there in zip(stream(0), stream(2), strict=True))


def test_a_resumed_fit_on_samples_ends_as_an_unbroken_one_and_names_them(settings: FitSettings) -> None:
    quiet = Console(quiet=True)
    fit(settings, quiet)
    assert weights.load(settings.out).card.dataset == VERSION
    unbroken = load_file(settings.out)
    broken = replace(settings, out=settings.out.with_name("broken.safetensors"))
    torch.manual_seed(settings.seed)
    crew = Crew("cpu")
    state = started(broken, crew)
    stream = Feed(broken, PhotoPool.scan(settings.photos), crew, state.hard)
    with pytest.raises(Interrupted), Progress(console=quiet) as bar:
        loop(broken, state, interrupted(iter(stream), 3), Surroundings(crew, bar))
    fit(replace(broken, resume=True), quiet)
    resumed = load_file(broken.out)
    assert [name for name, value in unbroken.items() if not torch.equal(value, resumed[name])] == []
