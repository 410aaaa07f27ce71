"""The embedder: vectors, the views it is fitted on, its loss, its handler. Weights of the fits here are of no use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.numpy import load
from safetensors.torch import save_file

from model_archive import preprocess, weights
from model_archive.check import GOLDEN
from model_archive.handlers import embedding, serving
from model_archive.handlers.embedder import Embedder
from model_archive.handlers.embedding import EmbedderModel, embedder_model
from model_archive.handlers.probe import LocalContext
from model_archive.handlers.results import SingleRequest
from model_archive.networks import foreign, prior, registry
from model_archive.networks.embedder import LENGTH
from services.core.errors import Broken
from services.core.intake.regions import REGIONS, STORED, Embedding
from tests.models.conftest import textured
from trainer import contrast
from trainer.data import Batch, SampleStream, view_example
from trainer.evaluate_embedder import CHANGES, measured
from trainer.fit import FitSettings, Surroundings, fit, loop, started
from trainer.loss import LossWeights, copy_loss
from trainer.processes import Crew
from trainer.synthesis import views
from trainer.synthesis.photos import PhotoPool

UPLOAD = (GOLDEN / "upload.jpg").read_bytes()
ORIGINAL = (GOLDEN / "original.jpg").read_bytes()
WEIGHTS = Path(weights.__file__).parent / "weights"


@pytest.fixture(scope="module")
def model() -> EmbedderModel:
    return embedder_model()


def pictures(count: int, height: int = 90, width: int = 120) -> list[np.ndarray]:
    return [textured(np.random.default_rng(seed), 128)[:height, :width] for seed in range(count)]


def test_a_vector_has_64_numbers_and_the_length_1_at_any_size_of_the_input() -> None:
    network = registry.build("embedder").eval()
    for side in (96, 128, 160):
        with torch.inference_mode():
            vectors = network(torch.rand(3, preprocess.CHANNELS["embedder"], side, side))
        assert vectors.shape == (3, LENGTH)
        assert vectors.dtype == torch.float32
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_a_picture_of_one_colour_has_a_vector_too(model: EmbedderModel) -> None:
    for level in (0, 255):
        (vectors,) = model.embed([np.full((40, 60, 3), level, np.uint8)])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_regions_of_a_picture_have_the_networks_size_and_start_with_the_whole() -> None:
    rgb = textured(np.random.default_rng(0), 128)[:, :90]
    x = preprocess.region_inputs(rgb)
    assert x.shape == (len(REGIONS), 3, preprocess.REGION_SIDE, preprocess.REGION_SIDE)
    np.testing.assert_array_equal(x[0], preprocess.region_input(rgb))
    assert 0.0 <= x.min() < x.max() <= 1.0


def test_a_large_picture_and_its_half_have_the_same_regions_but_for_rounding() -> None:
    large = cv2.resize(textured(np.random.default_rng(0), 320), (1280, 1280), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(large, (640, 640), interpolation=cv2.INTER_AREA)
    assert np.abs(preprocess.region_inputs(large) - preprocess.region_inputs(half)).mean() < 0.005


def test_a_picture_has_the_same_vectors_alone_and_among_others(model: EmbedderModel) -> None:
    together = model.embed(pictures(5))
    assert [vectors.shape for vectors in together] == [(len(REGIONS), LENGTH)] * 5
    for vectors, rgb in zip(together, pictures(5), strict=True):
        np.testing.assert_allclose(model.embed([rgb])[0], vectors, atol=1e-4)
    assert model.embed([]) == []


def test_the_vectors_of_a_picture_are_the_same_every_time(model: EmbedderModel) -> None:
    first, second = (embedder_model().embed(pictures(1))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.version == embedder_model().version


# -- what it is fitted on ----------------------------------------------------------------------------------------------


def test_the_same_seed_and_number_give_the_same_views(pool: PhotoPool) -> None:
    for number in range(6):
        first = views.view_pair(pool, 7, number)
        views.view_pair.cache_clear()
        second = views.view_pair(pool, 7, number)
        np.testing.assert_array_equal(first.original, second.original)
        np.testing.assert_array_equal(first.upload, second.upload)
    assert not np.array_equal(views.view_pair(pool, 8, 0).upload, views.view_pair(pool, 7, 0).upload)


def test_every_photograph_comes_once_a_round(pool: PhotoPool) -> None:
    count = len(pool.photos)
    for turn in range(2):
        photos = [views.view_pair(pool, 5, turn * count + place).photo for place in range(count)]
        assert sorted(photos) == list(range(count))


def test_both_kinds_of_views_are_made_and_their_regions_share_something(pool: PhotoPool) -> None:
    pairs = [views.view_pair(pool, 2, number) for number in range(60)]
    assert {pair.kind for pair in pairs} == {"whole", "part"}
    assert all(0.0 < pair.shared <= 1.0 for pair in pairs)
    assert np.median([pair.shared for pair in pairs if pair.kind == "whole"]) > 0.4


def test_an_upload_that_is_the_whole_photograph_shares_each_region_with_the_same_one() -> None:
    unmoved = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    shared = views.overlaps(unmoved, (80, 120), np.ones((80, 120), bool))
    assert shared.shape == (len(REGIONS), STORED)
    np.testing.assert_allclose(np.diag(shared), 1.0, atol=0.02)
    np.testing.assert_allclose(shared[0, 1:], 0.36, atol=0.02)
    assert (shared.argmax(axis=1)[:STORED] == np.arange(STORED)).all()


def test_a_crop_of_a_quarter_shares_most_with_that_quarter() -> None:
    upper_left = np.array([[0.6, 0.0, 0.0], [0.0, 0.6, 0.0]])
    assert views.overlaps(upper_left, (100, 100), np.ones((100, 100), bool))[0].argmax() == 1


def test_what_covers_an_upload_is_not_shared() -> None:
    seen = np.ones((100, 100), bool)
    seen[:, 50:] = False
    shared = views.overlaps(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (100, 100), seen)
    assert shared[0, 0] == pytest.approx(0.5, abs=0.02)


def test_a_pasted_object_is_in_the_regions_that_are_said_to_share_it() -> None:
    rng = np.random.default_rng(3)
    red = np.zeros((200, 200, 3), np.uint8)
    red[20:80, 20:80, 0] = 255
    labels = np.zeros((200, 200), np.int32)
    labels[20:80, 20:80] = 1
    found = 0
    for _ in range(10):
        made = views.with_part(rng, red, labels, np.full((200, 200, 3), 90, np.uint8))
        mine, stored = np.unravel_index(made.shared.argmax(), made.shared.shape)
        part = views.regions.crop(made.picture, REGIONS[mine])
        found += bool((part[..., 0].astype(int) - part[..., 1] > 60).mean() > 0.05)
        assert made.shared.max() > 0.1
        assert stored in (0, 1)
    assert found >= 7  # the others are drawn shapes, or on a red ground


def test_both_views_of_a_pair_are_examples_of_one_photograph(pool: PhotoPool) -> None:
    batch = SampleStream("embedder", pool, seed=3, size=96, batch=8).make(0)
    assert batch.x.shape == (8, 3, 96, 96)
    assert batch.target.dtype == torch.int64
    assert (batch.target[::2] == batch.target[1::2]).all()
    assert len(set(batch.target.tolist())) == 4
    x, photo = view_example(pool, 3, 5, 96)
    np.testing.assert_array_equal(x, batch.x[5].numpy())
    assert photo == batch.target[5]


# -- loss and fit ------------------------------------------------------------------------------------------------------


def on_circle(*degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_views_of_one_photograph_that_are_near_cost_less_than_views_that_are_not() -> None:
    photo = torch.tensor([4, 4, 9, 9])
    near, far = on_circle(0, 5, 180, 185), on_circle(0, 180, 5, 185)
    assert contrast.info_nce(near, photo, 0.1) < 0.01 < contrast.info_nce(far, photo, 0.1)


def test_one_pair_alone_among_strangers_costs_what_the_formula_says() -> None:
    vectors, photo = on_circle(0, 60, 90), torch.tensor([1, 1, 2])
    similarity = (vectors @ vectors.T / 0.5).exp()
    wanted = -torch.log(similarity[0, 1] / (similarity[0, 1] + similarity[0, 2]))
    wanted = (wanted - torch.log(similarity[1, 0] / (similarity[1, 0] + similarity[1, 2]))) / 2
    assert float(contrast.info_nce(vectors, photo, 0.5)) == pytest.approx(float(wanted), abs=1e-5)


def test_a_batch_without_pairs_or_of_one_photograph_costs_nothing_and_has_gradients() -> None:
    alone = on_circle(0, 90).requires_grad_()
    assert float(contrast.info_nce(alone.detach(), torch.tensor([1, 2]), 0.1)) == 0.0
    same = torch.tensor([1, 1])
    loss = contrast.info_nce(alone, same, 0.1) + contrast.crowding(alone, same)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert alone.grad is not None
    assert torch.isfinite(alone.grad).all()


def test_crowded_photographs_cost_more_than_spread_ones_and_equal_ones_stay_finite() -> None:
    photo = torch.tensor([1, 2, 3])
    assert contrast.crowding(on_circle(0, 10, 20), photo) > contrast.crowding(on_circle(0, 120, 240), photo)
    assert torch.isfinite(contrast.crowding(on_circle(0, 0, 0), photo))


@pytest.fixture
def settings(photo_folder: Path, tmp_path: Path) -> FitSettings:
    return FitSettings(
        network="embedder",
        photos=(photo_folder / "photos",),
        out=tmp_path / "embedder.safetensors",
        steps=12,
        batch=12,
        size=48,
        workers=0,
        warmup_steps=2,
        average=0.5,
        checkpoint_every=100,
    )


def test_a_short_fit_makes_the_loss_smaller(settings: FitSettings, pool: PhotoPool) -> None:
    card = fit(settings, Console(quiet=True))
    assert (card.network, card.samples) == ("embedder", 144)
    fitted = weights.load(settings.out).network
    batch = SampleStream("embedder", pool, seed=99, size=48, batch=24).make(0)
    torch.manual_seed(settings.seed)
    fresh = registry.build("embedder").eval()
    with torch.inference_mode():
        before, after = (copy_loss(each(batch.x), batch.target, LossWeights()) for each in (fresh, fitted))
    assert after < before


def first_of(stream: SampleStream, count: int) -> Iterator[Batch]:
    """A stream that breaks off."""
    yield from islice(stream, count)
    raise RuntimeError("interrupted")


def test_a_resumed_fit_of_the_embedder_ends_with_the_same_weights(settings: FitSettings) -> None:
    quiet = Console(quiet=True)
    fit(replace(settings, steps=4), quiet)
    unbroken = weights.load(settings.out).network.state_dict()
    parts = replace(settings, steps=4, out=settings.out.with_name("parts.safetensors"))
    crew = Crew("cpu")
    torch.manual_seed(settings.seed)
    pool = PhotoPool.scan(settings.photos)
    stream = SampleStream("embedder", pool, seed=settings.seed, size=settings.size, batch=settings.batch)
    state = started(parts, crew)
    with Progress(console=quiet) as bar, pytest.raises(RuntimeError):  # of the stream's end, which stands for any
        loop(replace(parts, checkpoint_every=2), state, first_of(stream, 3), Surroundings(crew, bar))
    fit(replace(parts, resume=True), quiet)
    resumed = weights.load(parts.out).network.state_dict()
    assert [name for name, value in unbroken.items() if not torch.equal(value, resumed[name])] == []


def test_the_measure_counts_every_kind_of_change(photo_folder: Path) -> None:
    pool = PhotoPool.scan([photo_folder / "photos"], [photo_folder / "labels"], split="all")
    rows = measured(embedder_model().embed, pool, seed=1)
    assert [row.change for row in rows] == [*CHANGES]
    for row in rows:
        assert 0.0 <= row.first <= row.tenth <= 1.0
        assert 0.0 <= row.pdq_first <= row.pdq_tenth <= 1.0
    assert rows[0].first == rows[0].pdq_first == 1.0  # unchanged: any weights find it


# -- handler -----------------------------------------------------------------------------------------------------------


def asked(*requests: dict[str, Any]) -> tuple[list[bytes], LocalContext]:
    entry = Embedder()
    context = LocalContext({}, {"model_dir": str(WEIGHTS)})
    entry.initialize(context)
    return entry.handle(list(requests), context), context


def test_the_handler_answers_vectors_an_error_or_its_version_for_each_item() -> None:
    bodies, context = asked({"upload": UPLOAD}, {"body": ORIGINAL}, {"upload": b"%PDF"}, {serving.DESCRIBE: b"1"}, {})
    assert context.statuses == {2: 422, 4: 422}
    kinds = ["application/octet-stream"] * 2 + ["application/json"] * 3
    assert [context.content_types[place] for place in range(5)] == kinds
    for body in bodies[:2]:
        vectors = load(body)["vectors"]
        assert (vectors.shape, vectors.dtype) == ((len(REGIONS), LENGTH), np.float16)
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1.0, atol=0.002)
    said = json.loads(bodies[0][8 : 8 + int.from_bytes(bodies[0][:8], "little")])["__metadata__"]
    assert json.loads(bodies[3]) == {"model": "embedder", "version": said["version"]}
    assert said["embedder"] == f"embedder-{said['version']}"
    assert [json.loads(bodies[place])["error"]["code"] for place in (2, 4)] == ["unsupported_type", "empty"]


def test_the_server_gives_the_vectors_that_the_offline_embedder_gives(model: EmbedderModel) -> None:
    (body,), _ = asked({"upload": UPLOAD})
    (own,) = model.embed([cv2.cvtColor(cv2.imdecode(np.frombuffer(UPLOAD, np.uint8), 1), cv2.COLOR_BGR2RGB)])
    assert (load(body)["vectors"].astype(np.float32) * own).sum(axis=1).min() > 0.999


def test_a_batch_is_looked_at_in_one_pass(model: EmbedderModel) -> None:
    passes: list[int] = []
    network = model.network

    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            passes.append(len(x))
            return network(x)

    replace(model, network=Counting()).analyse([SingleRequest(UPLOAD), SingleRequest(b""), SingleRequest(ORIGINAL)])
    assert passes == [2 * len(REGIONS)]


def test_a_network_that_breaks_is_our_fault_and_spares_the_reasons_of_the_others(model: EmbedderModel) -> None:
    class Breaking(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x.new_full((len(x), LENGTH), torch.nan)

    told: list[Exception] = []
    bad, good = replace(model, network=Breaking(), on_error=told.append).analyse(
        [SingleRequest(b""), SingleRequest(UPLOAD)]
    )
    assert isinstance(bad, embedding.ItemError)
    assert isinstance(good, embedding.ItemError)
    assert (bad.status, good.status) == (422, 500)
    assert [type(error) for error in told] == [Broken]


# -- other networks ----------------------------------------------------------------------------------------------------


def written(network: torch.nn.Module, path: Path, prefix: str = "") -> Path:
    tensors = {
        f"{prefix}{key}": value.contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "build", "prefix", "length"), [("dinov2", prior.dinov2, "", 384), ("sscd", foreign.sscd, "backbone.", 512)]
)
def test_another_network_embeds_where_the_environment_asks_for_it(
    name: str, build: Callable[[], torch.nn.Module], prefix: str, length: int, tmp_path: Path
) -> None:
    path = written(build(), tmp_path / "given.safetensors", prefix)
    environment = {embedding.BACKBONE: name, embedding.BACKBONE_WEIGHTS: str(path)}
    other = embedder_model(environment=environment)
    assert other.version.startswith(f"{name}+")
    vectors = other._looked([np.random.default_rng(0).random((1, 3, foreign.SIDE, foreign.SIDE), np.float32)])[0]
    assert vectors.shape == (1, length)
    assert np.linalg.norm(vectors) == pytest.approx(1.0, abs=1e-4)


def test_another_network_without_its_weights_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=embedding.BACKBONE_WEIGHTS):
        embedder_model(environment={embedding.BACKBONE: "dinov2"})
    with pytest.raises(Broken, match="there are dinov2, sscd"):
        foreign.load("resnet", tmp_path / "x")
    with pytest.raises(Broken, match="holds no embedder"):
        foreign.load("dinov2", tmp_path / "missing.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(Broken, match="does not fit sscd"):
        foreign.load("sscd", tmp_path / "x.safetensors")


def test_vectors_are_kept_with_the_name_of_what_made_them(model: EmbedderModel) -> None:
    kept = Embedding(f"{model.name}-{model.version}", model.embed(pictures(1))[0])
    assert kept.embedder.startswith("embedder-")
