"""Which pictures belong together, and which are the same once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.core.intake.examine import Limits
from tests.harvest.pictures import forged, jpeg, photo, png
from trainer.harvest import looking
from trainer.harvest.journal import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def seen(store: Store, data: bytes) -> dict[str, Any]:
    return looking.look(store, Limits(), store.add(data))


@pytest.mark.parametrize("turn", [lambda rgb: rgb, lambda rgb: rgb[:, ::-1], lambda rgb: np.rot90(rgb, 1)])
def test_the_original_of_a_forgery_is_found_whichever_way_round(store: Store, turn: Any) -> None:
    among = [seen(store, jpeg(photo(place))) for place in range(4)]
    upload = seen(store, jpeg(np.ascontiguousarray(turn(forged(1)))))
    near = looking.originals(among).near(upload)
    assert near[0][1] == among[1]["sha256"]
    assert looking.pair(store, looking.Near(upload["sha256"], tuple(near)))["original"] == among[1]["sha256"]


def test_the_very_same_bytes_are_no_original_and_geometry_has_the_last_word(store: Store) -> None:
    data = jpeg(photo(0))
    here = seen(store, data)
    assert looking.originals([here]).near(here) == []
    other = seen(store, jpeg(photo(1)))
    assert looking.pair(store, looking.Near(here["sha256"], ((80, other["sha256"]),))) == {"original": None}


def test_a_picture_saved_again_is_a_copy_and_another_edit_of_the_same_original_is_none(store: Store) -> None:
    first = forged(1)
    smaller = cv2.resize(first, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    files = [png(first), jpeg(first, 80), jpeg(smaller, 85), jpeg(forged(1, left=180), 85), jpeg(photo(1), 85)]
    pictures = [seen(store, data) for data in files]
    assert looking.may_be_copies(pictures)
    found = looking.copies(store, pictures)["copies"]
    assert found == {picture["sha256"]: pictures[0]["sha256"] for picture in pictures[1:3]}


def test_small_edits_are_near_by_hash_and_still_told_apart(store: Store) -> None:
    picture = photo(2)
    edited = picture.copy()
    edited[100:116, 100:116] = 255 - edited[100:116, 100:116]
    both = [seen(store, png(picture)), seen(store, png(edited))]
    assert looking.may_be_copies(both)
    assert looking.copies(store, both) == {"copies": {}}
