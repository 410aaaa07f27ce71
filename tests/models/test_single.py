"""The single-image model at native resolution, with the shipped weights: tiles, turned pictures, notes, limits."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_archive.card import FOLDER
from model_archive.handlers import single, tiling
from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.probe import LocalContext
from model_archive.handlers.results import Analysis, ItemError, SingleRequest
from model_archive.handlers.single import Limits, limits_from, prepared_single
from model_archive.handlers.unconstrained import Unconstrained
from services.clients.localisation import read_localisation
from services.core import pixels
from services.core.errors import Broken
from trainer import single_timing

SAMPLES = Path(__file__).parents[2] / "samples"
FORGERY = (SAMPLES / "uploads" / "canyon-walrus.jpg").read_bytes()  # 1024 x 621
SMALL_TILES = Limits(look_pixels=65_536, tile_pixels=65_536)
FAR = tiling.OVERLAP  # pixels from the picture's border, where whole and tiles see the same surroundings


def jpeg(picture: np.ndarray, *, orientation: int = 1, quality: int = 90) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def cropped(width: int, height: int) -> np.ndarray:
    return pixels.open_image(FORGERY).rgb[:height, :width]


def answered(model: Model[SingleRequest], *uploads: bytes) -> list[Analysis]:
    answers = model.analyse([SingleRequest(upload) for upload in uploads])
    bad = [answer for answer in answers if isinstance(answer, ItemError)]
    assert bad == []
    return [answer for answer in answers if isinstance(answer, Analysis)]


def limited(model: Model[SingleRequest], limits: Limits) -> Model[SingleRequest]:
    return replace(model, prepare=lambda request: prepared_single(request, limits), deadline_s=limits.deadline_s)


class Ticking:
    """A clock that goes on by `step` seconds each time it is read."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


# -- whole and in tiles --------------------------------------------------------------------------------------------


def test_an_upload_keeps_its_resolution_up_to_the_size_of_one_look() -> None:
    request = SingleRequest(jpeg(np.zeros((1024, 1536, 3), np.uint8)))
    whole = prepared_single(request, Limits())
    assert whole.x is not None
    assert whole.x.shape == (1, 4, 1024, 1536)
    assert whole.tiles is None
    one_more = prepared_single(SingleRequest(jpeg(np.zeros((1025, 1536, 3), np.uint8))), Limits())
    assert one_more.x is None
    assert one_more.tiles is not None
    assert (one_more.tiles.width, one_more.tiles.height) == (1536, 1025)


def test_a_tile_has_the_quantisation_steps_and_pixels_of_its_place() -> None:
    picture = pixels.open_image(FORGERY)
    whole = prepared_single(SingleRequest(FORGERY), Limits())
    assert whole.x is not None
    tile = single.tile_of(picture)(slice(96, 352), slice(224, 480))
    assert tile[3].max() > 0
    assert np.array_equal(tile, whole.x[0, :, 96:352, 224:480])


def test_tiles_agree_with_the_whole_on_a_picture_that_is_alike_everywhere(unconstrained: Model[SingleRequest]) -> None:
    """What a network holds against the rest of the picture is then the same for a tile: only borders may differ."""
    alike = jpeg(np.tile(cropped(128, 128), (4, 6, 1)))
    (whole,) = answered(unconstrained, alike)
    (tiled,) = answered(limited(unconstrained, SMALL_TILES), alike)
    inner = np.s_[FAR:-FAR, FAR:-FAR]
    difference = np.abs(whole.mask.astype(int) - tiled.mask)[inner]
    assert difference.mean() < 10.0
    assert ((whole.mask >= 128) != (tiled.mask >= 128))[inner].mean() < 0.01
    assert math.isclose(whole.score, tiled.score, abs_tol=0.2)


def test_tiles_of_a_photograph_show_no_seam(unconstrained: Model[SingleRequest]) -> None:
    limits = Limits(look_pixels=65_536, tile_pixels=120_000)
    (answer,) = answered(limited(unconstrained, limits), FORGERY)
    tiles = tiling.planned(1024, 621, most=120_000)
    steps = np.abs(np.diff(answer.mask.astype(int), axis=1)).mean(axis=0)
    edges = [left - 1 for left in tiles.columns[1:]] + [left + tiles.size[0] - 1 for left in tiles.columns[:-1]]
    assert len(edges) >= 4
    assert np.mean(steps[edges]) < 2.0 * np.mean(steps) + 0.1


def test_a_small_batch_and_a_large_one_give_the_same_mask(unconstrained: Model[SingleRequest]) -> None:
    tiles = tiling.planned(600, 400, most=65_536)
    cut = single.tile_of(pixels.open_image(jpeg(cropped(600, 400))))

    def look(x: tiling.Floats) -> tuple[tiling.Floats, tiling.Floats]:
        return unconstrained._looked(single.NETWORK, x)

    one, many = (tiling.looked(tiles, cut, look, batch_pixels=room) for room in (1, 10**7))
    assert one is not None
    assert many is not None
    assert np.abs(one.mask.astype(int) - many.mask).max() <= 1
    assert one.logit == pytest.approx(many.logit, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_photograph_of_24_megapixels_takes_at_most_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import torch; from trainer.single_timing import peak_mb\n"
        "from model_archive.handlers.analysis import unconstrained_model\n"
        "from model_archive.handlers.results import SingleRequest\n"
        "torch.set_num_threads(2)\n"
        "answer = unconstrained_model().analyse([SingleRequest(Path(sys.argv[1]).read_bytes())])[0]\n"
        "print(answer.mask.shape, len(answer.body()) > 0, answer.notes, round(peak_mb()))\n"
    )
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(jpeg(np.tile(cropped(1000, 600), (7, 6, 1))[:4000]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(photograph)], capture_output=True, text=True, check=False, timeout=880
    )
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.split()
    assert " ".join(said) == "(4000, 6000) True ()"
    assert int(peak) <= 1536


def test_the_cost_of_a_picture_is_measured_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unconstrained: Model[SingleRequest]
) -> None:
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(single_timing.photograph(300, 200))
    ballast = np.ones(200_000_000, np.uint8)  # ours, and none of the child's
    assert single_timing.main(["--image", str(photograph), "--rounds", "1", "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["width"], line["height"], line["notes"]) == (300, 200, [])
    assert line["version"] == unconstrained.version
    assert line["forward_s"] > 0
    assert line["whole_s"] > 0
    assert 100 < line["peak_mb"] < single_timing.peak_mb()
    assert ballast.all()


def test_the_table_of_costs_has_a_line_for_cases_without_goals_too(capsys: pytest.CaptureFixture[str]) -> None:
    cost = single_timing.Cost(**{field.name: 1.0 for field in fields(single_timing.Cost)} | {"version": "1+a"})  # type: ignore[arg-type]
    single_timing.show(
        [(single_timing.Case("with", 8, 8, goal_s=2.0), cost), (single_timing.Case("without", 8, 8), cost)]
    )
    said = capsys.readouterr().out
    assert "2 s" in said
    assert "without" in said


# -- turned photographs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(), SMALL_TILES], ids=["whole", "tiles"])
def test_a_turned_jpeg_gets_the_mask_of_the_stored_one_turned(
    limits: Limits, unconstrained: Model[SingleRequest]
) -> None:
    model, picture = limited(unconstrained, limits), cropped(400, 250)
    (plain,) = answered(model, jpeg(picture))
    assert plain.mask.std() > 1
    for orientation in (3, 5, 6):
        (turned,) = answered(model, jpeg(picture, orientation=orientation))
        assert np.abs(turned.mask.astype(int) - pixels.upright(plain.mask, orientation)).max() <= 1
        assert turned.score == pytest.approx(plain.score, abs=1e-3)


# -- notes ---------------------------------------------------------------------------------------------------------


def test_the_notes_travel_with_the_mask_to_the_client(unconstrained: Model[SingleRequest]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(cropped(200, 100)).save(buffer, "PNG")
    fine, png = answered(unconstrained, jpeg(cropped(300, 200)), buffer.getvalue())
    assert fine.notes == ()
    assert read_localisation(png.body(), model="unconstrained").notes == ("no_jpeg_history", "small_picture")


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 6])
def test_more_pixels_than_allowed_are_reduced_which_the_notes_say(
    orientation: int, unconstrained: Model[SingleRequest]
) -> None:
    limits = Limits(pixels=50_000, look_pixels=40_000)
    upload = jpeg(cropped(400, 200), orientation=orientation)
    prepared = prepared_single(SingleRequest(upload), limits)
    assert prepared.tiles is None
    assert prepared.working == (282, 141)
    assert prepared.x is not None
    assert prepared.x[0, 3].max() == 0.0, "a reduced JPEG has no grid left"
    (answer,) = answered(limited(unconstrained, limits), upload)
    assert answer.notes == ("reduced",)
    assert answer.mask.shape == ((200, 400) if orientation == 1 else (400, 200))


@pytest.fixture
def in_tiles() -> bytes:
    return jpeg(cropped(700, 400))


def test_a_picture_that_time_will_not_do_for_is_reduced_after_the_first_tile(
    in_tiles: bytes, unconstrained: Model[SingleRequest]
) -> None:
    looks: list[int] = []
    hurried = _counting(limited(unconstrained, replace(SMALL_TILES, deadline_s=30.0)), looks, Ticking(10.0))
    (answer,) = answered(hurried, in_tiles)
    assert answer.notes == ("reduced", "out_of_time")
    assert answer.mask.shape == (400, 700)
    assert len(looks) == 2, "one tile, then the reduced picture"
    reduced = limited(unconstrained, replace(SMALL_TILES, pixels=65_536))
    assert np.array_equal(answer.mask, answered(reduced, in_tiles)[0].mask)


def test_enough_time_leaves_a_picture_its_resolution(in_tiles: bytes, unconstrained: Model[SingleRequest]) -> None:
    patient = replace(limited(unconstrained, replace(SMALL_TILES, deadline_s=1000.0)), clock=Ticking(1.0))
    (answer,) = answered(patient, in_tiles)
    assert answer.notes == ()
    assert np.array_equal(answer.mask, answered(limited(unconstrained, SMALL_TILES), in_tiles)[0].mask)


def test_what_costs_no_more_than_the_reduced_look_is_finished(unconstrained: Model[SingleRequest]) -> None:
    """Two tiles left of a third of the reduced size each: it would be slower to begin anew."""
    limits = Limits(look_pixels=200_000, tile_pixels=100_000, deadline_s=0.001)
    upload = jpeg(cropped(620, 340))
    assert tiling.planned(620, 340, most=100_000).count == 3
    late = replace(limited(unconstrained, limits), clock=Ticking(10.0))
    (answer,) = answered(late, upload)
    assert answer.notes == ()


def test_the_pictures_of_a_batch_share_its_time(in_tiles: bytes, unconstrained: Model[SingleRequest]) -> None:
    """Alone there is time for all rows of tiles, a second each; of four the first may have a quarter of it."""
    limits = replace(SMALL_TILES, deadline_s=8.0)
    (alone,) = answered(replace(limited(unconstrained, limits), clock=Ticking(1.0)), in_tiles)
    assert alone.notes == ()
    small = jpeg(cropped(200, 150))
    first, *_ = answered(replace(limited(unconstrained, limits), clock=Ticking(1.0)), in_tiles, small, small, small)
    assert first.notes == ("reduced", "out_of_time")


def test_the_environment_sets_the_limits() -> None:
    assert limits_from({}) == Limits()
    assert limits_from({}, deadline_s=40.0).deadline_s == 40.0
    given = {single.PIXELS: "25000000", single.DEADLINE: "7.5"}
    assert limits_from(given, deadline_s=40.0) == Limits(pixels=25_000_000, deadline_s=7.5)
    assert unconstrained_model(environment=given).deadline_s == 7.5


def test_only_who_serves_has_a_deadline_of_its_own() -> None:
    entry = Unconstrained()
    entry.initialize(LocalContext({}, {"model_dir": str(FOLDER)}))
    assert entry._model is not None
    assert entry._model.deadline_s == single.SERVED_DEADLINE_S
    assert unconstrained_model(environment={}).deadline_s == math.inf


@pytest.mark.parametrize(
    "given", [{single.PIXELS: "many"}, {single.PIXELS: "-1"}, {single.DEADLINE: "0"}, {single.DEADLINE: "nan"}]
)
def test_limits_that_are_none_end_the_start(given: dict[str, str]) -> None:
    with pytest.raises(Broken, match=single.PIXELS):
        limits_from(given)


# -- copies within the picture -------------------------------------------------------------------------------------


def with_a_copy() -> np.ndarray:
    """A photograph, 600 x 400, in which 120 x 100 pixels at (60, 250) were copied to (400, 60)."""
    picture = pixels.open_image((SAMPLES / "originals" / "lighthouse.jpg").read_bytes()).rgb
    picture = np.array(Image.fromarray(picture).resize((600, 400), Image.Resampling.LANCZOS))
    picture[60:160, 400:520] = picture[250:350, 60:180]
    return picture


def around(box: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 16 for a, b in zip(box, expected, strict=True))


@pytest.mark.parametrize("limits", [Limits(), SMALL_TILES], ids=["whole", "tiles"])
def test_a_part_that_is_there_twice_is_marked_and_named(unconstrained: Model[SingleRequest], limits: Limits) -> None:
    (answer,) = answered(limited(unconstrained, limits), jpeg(with_a_copy()))
    assert answer.score >= single.COPY_SCORE
    assert (answer.mask[60:160, 400:520] >= 128).mean() > 0.75  # but for the sky in a corner, which is alike anywhere
    (part,) = answer.copies
    places = {part.source, part.copy}
    assert any(around(place, (400, 60, 120, 100)) for place in places)
    assert any(around(place, (60, 250, 120, 100)) for place in places)


def test_the_boxes_of_copies_are_those_of_the_upright_picture(unconstrained: Model[SingleRequest]) -> None:
    """Orientation 6: the stored rows are the upright columns, from the right."""
    (answer,) = answered(unconstrained, jpeg(with_a_copy(), orientation=6))
    assert answer.mask.shape == (600, 400)
    (part,) = answer.copies
    assert any(around(place, (400 - 160, 400, 100, 120)) for place in (part.source, part.copy))


def test_copies_travel_with_the_mask(unconstrained: Model[SingleRequest]) -> None:
    (answer,) = answered(unconstrained, jpeg(with_a_copy()))
    assert read_localisation(answer.body(), model="unconstrained").copies == answer.copies


def test_a_picture_without_copies_names_none(unconstrained: Model[SingleRequest]) -> None:
    (answer,) = answered(unconstrained, (SAMPLES / "originals" / "lighthouse.jpg").read_bytes())
    assert answer.copies == ()
    assert answer.facts()["copies"] == []


def _counting(model: Model[SingleRequest], looks: list[int], clock: Callable[[], float]) -> Model[SingleRequest]:
    """The model with its own network, which notes the pixels of each look."""
    network = model.loaded.network
    handle = network.register_forward_hook(lambda module, args, output: looks.append(args[0].shape[-2:].numel()))
    assert handle is not None
    return replace(model, clock=clock)
