"""A whole harvest from a web on loopback: what is kept, what is dropped and why."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.core.pixels import open_image, read_mask_png
from tests.harvest.commands import QUICK, lines, reach, write_list
from tests.harvest.pictures import SAMPLES, SIDE, forged, jpeg, photo, png
from tests.harvest.web import HUGE, Web, served
from trainer.harvest.__main__ import main
from trainer.sets import cases, read_mask

# -- one harvest of everything that a web has ------------------------------------------------------------------------


@dataclass
class Harvested:
    site: Web
    out: Path
    command: list[str]
    figures: dict[str, Any]
    fates: dict[str, str]


@pytest.fixture(scope="module")
def harvested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harvested]:
    folder = tmp_path_factory.mktemp("harvest")
    pictures = {
        "/o1.jpg": jpeg(photo(1)),
        "/o0.jpg": jpeg(photo(0)),
        "/f1.png": png(forged(1)),
        "/f1-again.jpg": jpeg(forged(1), 85),
        "/other.jpg": jpeg(photo(2)),
        "/cut.jpg": jpeg(photo(3))[:5000],
        "/busy-once": jpeg(forged(0, left=120)),
        "/private/x.jpg": jpeg(photo(4)),
    }
    with served(Web(pictures, robots={"localhost": "User-agent: *\nDisallow: /private/"})) as site:
        original = site.url("/o1.jpg")
        forgeries = {
            "kept": site.url("/to/localhost/f1.png"),
            "same": site.url("/f1.png"),
            "near": site.url("/f1-again.jpg"),
            "unrelated": site.url("/other.jpg"),
            "cut": site.url("/cut.jpg"),
            "gone": site.url("/gone.jpg"),
            "html": site.url("/html"),
            "huge": site.url("/huge"),
            "robots": site.url("/private/x.jpg"),
            "abroad": site.url("/to/127.0.0.1/f1.png"),
            "elsewhere": f"http://elsewhere.example:{site.port}/f1.png",
            "replaced": site.url("/o0.jpg"),
            "bad": "/etc/passwd",
            "busy": site.url("/busy-once"),
            "closed": site.url("/closed"),
        }
        rows = [
            (
                url,
                site.url("/o0.jpg") if name == "busy" else original,
                "CC0",
                "<b>Ann</b>",
                "ab" * 32 * (name == "replaced"),
            )
            for name, url in forgeries.items()
        ]
        file = write_list(folder / "pairs.csv", rows, "forged,original,licence,author,sha256")
        out = folder / "mined"
        command = ["pairs", str(file), "--out", str(out), "--max-bytes", str(HUGE), "--json", "--shards", "1"]
        command += [*QUICK, *reach(site), "--at-once", "1"]  # so that what is closed closes nothing before it
        assert main(command) == 1  # /closed is worth another run
        said = {line["url"]: line["fate"] for line in lines(out / "dropped.jsonl") if "url" in line}
        fates = {name: said.get(url, "") for name, url in forgeries.items()}
        yield Harvested(site, out, command, json.loads((out / "statistics.json").read_text()), fates)


def test_every_row_has_one_fate_that_says_why(harvested: Harvested) -> None:
    assert harvested.fates == {
        "kept": "", "same": "duplicate", "near": "duplicate", "unrelated": "unrelated", "cut": "failed",
        "gone": "failed", "html": "failed", "huge": "failed", "robots": "robots", "abroad": "not_allowed",
        "elsewhere": "not_allowed", "replaced": "failed", "closed": "postponed", "bad": "", "busy": "",
    }  # fmt: skip
    fates = harvested.figures["fates"]
    assert sum(fates.values()) == harvested.figures["rows"] == 15
    assert (fates["kept"], fates["bad_row"], fates["failed"]) == (2, 1, 5)
    assert all(line["why"] for line in lines(harvested.out / "dropped.jsonl"))


def test_the_manifest_says_where_everything_comes_from(harvested: Harvested) -> None:
    line = lines(harvested.out / "manifest.jsonl")[0]
    assert line["url"] == harvested.site.url("/to/localhost/f1.png")
    assert line["fetched_from"] == harvested.site.url("/f1.png")
    assert (line["licence"], line["author"], line["original_licence"]) == ("CC0", "<b>Ann</b>", None)
    assert line["kind"] == "spg" and line["qes"] > 0.5 and line["annotator"].startswith("constrained/")
    for name, digest in (("forged", "sha256"), ("original", "original_sha256")):
        assert sha256((harvested.out / line[name]).read_bytes()).hexdigest() == line[digest]
    mask, _ = read_mask_png((harvested.out / line["mask"]).read_bytes())
    assert mask.shape == open_image((harvested.out / line["forged"]).read_bytes()).rgb.shape[:2]
    assert (mask > 127)[70:120, 90:160].mean() > 0.8
    assert round(float((mask > 127).mean()), 6) == line["area"]
    assert line["fetched_at"] and line["original_fetched_at"]


def test_the_evaluation_reads_it_as_a_set(harvested: Harvested) -> None:
    found = cases(harvested.out)
    assert len(found) == 2
    for case in found:
        assert case.original is not None
        assert read_mask(case.mask).any()
        assert open_image(case.forged.read_bytes()).width == open_image(case.original.read_bytes()).width == SIDE


def test_shards_hold_each_pair_whole_and_are_the_same_bytes_again(harvested: Harvested) -> None:
    shards = sorted((harvested.out / "shards").iterdir())
    assert [shard.name for shard in shards] == ["000000.tar", "000001.tar"]
    before = [shard.read_bytes() for shard in shards]
    with tarfile.open(shards[0]) as archive:
        assert sorted(name.partition(".")[2] for name in archive.getnames()) == [
            "forged.png", "json", "mask.png", "original.jpg",
        ]  # fmt: skip
    main(harvested.command)
    assert [shard.read_bytes() for shard in shards] == before


def test_the_page_shows_what_was_kept_and_escapes_what_strangers_wrote(harvested: Harvested) -> None:
    assert main(["page", str(harvested.out)]) == 0
    page = (harvested.out / "index.html").read_text()
    assert page.count("data:image/jpeg") == 2 * 2
    assert "<b>Ann" not in page and "&lt;b&gt;Ann" in page
    assert "robots.txt of localhost forbids" in page


def test_another_run_asks_only_for_what_was_away(harvested: Harvested) -> None:
    before = harvested.site.counts()
    assert before["/f1.png"] == 2  # by its own URL, and by the one that redirects to it
    main(harvested.command)
    asked = harvested.site.counts() - before
    assert set(asked) == {"/robots.txt", "/closed", "/to/127.0.0.1/f1.png"}
    stages = json.loads((harvested.out / "statistics.json").read_text())["stages"]
    assert (stages["look"]["done"], stages["annotate"]["done"]) == (0, 0)


def test_a_smaller_list_leaves_a_smaller_data_set(harvested: Harvested) -> None:
    main([*harvested.command, "--limit", "1"])
    assert len(lines(harvested.out / "manifest.jsonl")) == 1
    assert len(list((harvested.out / "masks").iterdir())) == len(list((harvested.out / "shards").iterdir())) == 1
    assert len(list((harvested.out / "images").iterdir())) == 2
    main(harvested.command)
    assert len(lines(harvested.out / "manifest.jsonl")) == 2


# -- how it is asked --------------------------------------------------------------------------------------------------


def test_pools_of_folders_and_shards_are_paired_and_annotated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uploads, originals = tmp_path / "uploads", tmp_path / "originals.tar"
    uploads.mkdir()
    (uploads / "a.jpg").write_bytes(jpeg(forged(2)[:, ::-1]))
    (uploads / "b.jpg").write_bytes(jpeg(photo(5)))
    with tarfile.open(originals, "w") as archive:
        for place in range(3):
            file = tmp_path / f"{place}.jpg"
            file.write_bytes(jpeg(photo(place)))
            archive.add(file, file.name)
    out = tmp_path / "mined"
    assert main(["pools", "--forged", str(uploads), "--originals", str(originals), "--out", str(out), *QUICK]) == 0
    (line,) = lines(out / "manifest.jsonl")
    assert (line["url"], line["original_url"]) == ("uploads/a.jpg", "originals.tar!2.jpg")
    assert [(line["url"], line["fate"]) for line in lines(out / "dropped.jsonl")] == [("uploads/b.jpg", "unpaired")]
    assert "kept" in capsys.readouterr().out


@pytest.mark.slow
def test_a_pasted_object_is_marked_in_its_original_too(tmp_path: Path) -> None:
    rows = [("uploads/desert-giraffe.jpg", "originals/giraffe.jpg")]
    out = tmp_path / "mined"
    command = ["pairs", str(write_list(tmp_path / "pairs.csv", rows, "forged,original")), "--out", str(out)]
    assert main([*command, "--root", str(SAMPLES), "--side", "512", "--no-flips", "--shards", "1"]) == 0
    (line,) = lines(out / "manifest.jsonl")
    assert line["kind"] == "sdg"
    taken, _ = read_mask_png((out / line["original_mask"]).read_bytes())
    assert taken.shape == open_image((out / line["original"]).read_bytes()).rgb.shape[:2]
    assert (taken > 127).any()
    with tarfile.open(out / "shards" / "000000.tar") as archive:
        assert f"{line['id']}.original_mask.png" in archive.getnames()


def test_a_dry_run_asks_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("https://a.example/1.jpg", "https://b.example/1.jpg"), ("x.jpg", "https://b.example/1.jpg"), ("..", "")]
    file = write_list(tmp_path / "pairs.csv", rows, "forged,original")
    command = [
        "pairs",
        str(file),
        "--out",
        str(tmp_path / "mined"),
        "--allow-host",
        "a.example",
        "--contact",
        "a@b.example",
    ]
    assert main([*command, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 3, "bad_rows": 1, "pictures": 3, "files": 1, "already_here": 0,
        "to_fetch_by_host": {"a.example": 1, "b.example (not allowed)": 1},
    }  # fmt: skip
    assert not (tmp_path / "mined").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--contact", "a@b.example"], "--allow-host"),
        (["--allow-host", "a.example"], "--contact"),
        (["--allow-host", "a.example", "--contact", "a@b.example\r\nX: y"], "--contact"),
        (["--allow-host", "*", "--contact", "a@b.example"], "allowed host"),
        (["--column", "colour=red"], "NAME=HEADER"),
        (["--forged-column", "fake"], "no column fake"),
        (["--limit", "0"], "1 or more"),
    ],
)
def test_wrong_use_says_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    file = write_list(
        tmp_path / "pairs.csv", [("https://a.example/1.jpg", "https://a.example/2.jpg")], "forged,original"
    )
    with pytest.raises(SystemExit) as ended:
        main(["pairs", str(file), "--out", str(tmp_path / "mined"), *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mined").exists()


def test_a_folder_with_somebodys_files_is_not_harvested_into(tmp_path: Path) -> None:
    (tmp_path / "mined" / "images").mkdir(parents=True)
    (tmp_path / "mined" / "images" / "mine.jpg").write_bytes(b"precious")
    file = write_list(tmp_path / "pairs.csv", [("a.jpg", "b.jpg")], "forged,original")
    with pytest.raises(SystemExit):
        main(["pairs", str(file), "--out", str(tmp_path / "mined")])
    assert (tmp_path / "mined" / "images" / "mine.jpg").read_bytes() == b"precious"
