"""Photographs to make forgeries from: generated, so that the tests need no data beside the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_archive.check import GOLDEN
from model_archive.handlers.analysis import Model, constrained_model, unconstrained_model
from model_archive.handlers.results import PairRequest, SingleRequest
from trainer.synthesis.photos import PhotoPool

SIDE = 320


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen textured pictures as JPEG in `photos/`, and label maps of some in `labels/`."""
    folder = tmp_path_factory.mktemp("pool")
    (folder / "photos").mkdir()
    (folder / "labels").mkdir()
    for index in range(12):
        rng = np.random.default_rng(index)
        cv2.imwrite(str(folder / "photos" / f"scene{index}.jpg"), textured(rng), [cv2.IMWRITE_JPEG_QUALITY, 92])
        if index % 3 == 0:
            labels = np.zeros((SIDE, SIDE), np.uint8)
            cv2.circle(labels, (160, 150), 60, (1,), -1)
            cv2.rectangle(labels, (20, 20), (90, 70), (2,), -1)
            cv2.imwrite(str(folder / "labels" / f"scene{index}.png"), labels)
    return folder


@pytest.fixture(scope="session")
def pool(photo_folder: Path) -> PhotoPool:
    return PhotoPool.scan([photo_folder / "photos"], [photo_folder / "labels"], split="all")


@pytest.fixture(scope="session")
def constrained() -> Model[PairRequest]:
    return constrained_model()


@pytest.fixture(scope="session")
def unconstrained() -> Model[SingleRequest]:
    return unconstrained_model()


@pytest.fixture
def one_forgery(tmp_path: Path) -> Path:
    """A set like those that are measured: the golden forgery with a mask around its second tower."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("upload", "original"):
        shutil.copy(GOLDEN / f"{name}.jpg", folder)
    mask = np.zeros((320, 480), np.uint8)
    mask[105:178, 88:130] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    rows = "forged,mask,original,width,height,mask_area\nupload.jpg,mask.png,original.jpg,480,320,0.02\n"
    (folder / "manifest.csv").write_text(rows)
    return folder


def textured(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """A picture with structure at several scales, [side,side,3] uint8."""
    layers = [
        cv2.resize(
            rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        for cells in (4, 16, 64)
    ]
    picture = 0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]
    return np.clip(picture, 0, 255).astype(np.uint8)
