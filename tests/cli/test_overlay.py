"""The demo's pictures."""

from __future__ import annotations

import numpy as np

from services.cli.overlay import MARGIN, PANEL_SIDE, Panel, marked, sheet

GREY = np.full((60, 90, 3), 120, np.uint8)


def test_only_the_flagged_region_changes() -> None:
    binary = np.zeros((60, 90), np.uint8)
    binary[20:40, 30:60] = 1
    changed = (marked(GREY, binary) != GREY).any(axis=2)
    assert changed[20:40, 30:60].all()
    around = np.zeros((60, 90), bool)
    around[18:42, 28:62] = True  # the outline is two pixels wide
    assert not changed[~around].any()


def test_nothing_flagged_leaves_the_picture_as_it_is() -> None:
    assert np.array_equal(marked(GREY, np.zeros((60, 90), np.uint8)), GREY)


def test_a_sheet_holds_its_panels_side_by_side_and_a_caption_below() -> None:
    red, blue = (np.zeros((40, 80, 3), np.uint8) for _ in range(2))
    red[...], blue[...] = (200, 0, 0), (0, 0, 200)
    page = sheet([Panel("upload", red), Panel("original", blue)], ["what was found " * 40])
    assert page.shape[1] == 2 * PANEL_SIDE + 3 * MARGIN
    assert page.shape[0] > PANEL_SIDE // 2 + 4 * MARGIN
    row = page[PANEL_SIDE // 4 + 2 * MARGIN]
    assert tuple(row[MARGIN + 10]) == (200, 0, 0)
    assert tuple(row[-MARGIN - 10]) == (0, 0, 200)
