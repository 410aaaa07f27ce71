"""`mask` on the samples with the shipped models: the contract that scorers rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.core.pixels import open_image, read_mask_png
from tests.cli.conftest import SAMPLES, Pentimento

UPLOADS, ORIGINALS = SAMPLES / "uploads", SAMPLES / "originals"


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def mask_size(file: Path) -> tuple[int, int]:
    mask, _ = read_mask_png(file.read_bytes())
    return mask.shape[1], mask.shape[0]


def test_mask_writes_a_png_of_the_same_size_and_a_line_for_each_image(pentimento: Pentimento, tmp_path: Path) -> None:
    images = [UPLOADS / "lighthouse-16bit.png", UPLOADS / "sign-sideways.jpg"]
    done = pentimento("mask", *images, "--out", tmp_path / "out", "--threads", "1")
    assert done.status == 0, done.stderr
    lines = results(tmp_path / "out")
    assert [line["image"] for line in lines] == [str(image) for image in images]
    for image, line in zip(images, lines, strict=True):
        assert set(line) == {"image", "score", "decision", "area", "seconds", "model", "notes"}
        assert 0 <= line["score"] <= 1
        assert 0 <= line["area"] <= 1
        assert line["decision"] in ("manipulated", "no_evidence", "inconclusive")
        assert line["model"].startswith("unconstrained/")
        picture = open_image(image.read_bytes())
        assert mask_size(tmp_path / "out" / f"{image.stem}.png") == (picture.width, picture.height)
    assert [line["notes"] for line in lines] == [["no_jpeg_history"], []]
    assert "no_jpeg_history (1 image): The file is no JPEG" in done.stderr


def test_a_bad_file_is_a_line_with_error_and_the_others_are_done(pentimento: Pentimento, tmp_path: Path) -> None:
    images = [UPLOADS / "truncated.jpg", tmp_path / "missing.jpg", UPLOADS / "pier-moving.gif"]
    done = pentimento("mask", *images, "--out", tmp_path / "out", "--threads", "1")
    assert done.status == 1
    assert "2 of 3 files have no result" in done.stderr
    truncated, missing, good = results(tmp_path / "out")
    assert truncated["code"] == "truncated"
    assert missing["error"] == "No such file or directory"
    assert "error" not in good
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["pier-moving.png"]


def test_mask_resumes_after_the_images_that_have_a_line(pentimento: Pentimento, tmp_path: Path) -> None:
    done, todo = UPLOADS / "lake-cropped.jpg", UPLOADS / "pier-moving.gif"
    out = tmp_path / "out"
    out.mkdir()
    line = {"image": str(done), "score": 0.125}  # no model answers so: it is kept, not made again
    (out / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert pentimento("mask", done, todo, "--out", out, "--resume", "--threads", "1").status == 0
    kept, made = results(out)
    assert kept == line
    assert made["image"] == str(todo)


def test_mask_with_originals_takes_the_path_that_lookup_chooses(pentimento: Pentimento, tmp_path: Path) -> None:
    names = ["windmill-giraffe.jpg", "lighthouse.jpg", "capsule.jpg"]
    arguments: list[str | Path] = ["--out", tmp_path / "out", "--originals", ORIGINALS, "--threads", "1"]
    done = pentimento("mask", *(UPLOADS / name for name in names), *arguments)
    assert done.status == 0, done.stderr
    forged, identical, unknown = results(tmp_path / "out")
    assert forged["path"] == "constrained-spg"
    assert forged["original"] == str(ORIGINALS / "windmill.jpg")
    assert forged["decision"] == "manipulated"
    assert identical["path"] == "identical"
    assert identical["decision"] == "no_evidence"
    assert unknown["path"] == "unconstrained"
    assert unknown["original"] is None


def test_an_original_that_cannot_be_read_is_a_line_too(pentimento: Pentimento, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    upload = UPLOADS / "pier-moving.gif"
    done = pentimento("mask", upload, "--out", tmp_path / "out", "--originals", library, "--threads", "1")
    assert done.status == 1
    bad, good = results(tmp_path / "out")
    assert bad["original"] == str(library / "broken.jpg")
    assert good["path"] == "unconstrained"


def test_mask_says_where_it_writes_in_its_help(pentimento: Pentimento) -> None:
    help_text = pentimento("mask", "--help").stdout
    assert "results.jsonl" in help_text
    assert "Example: pentimento" in help_text
