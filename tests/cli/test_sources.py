"""Which images a command line names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer import BadParameter

from services.cli.sources import FileSource, UrlSource, files, sources


def test_a_folder_gives_its_images_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "deep/c.webp", ".thumbs/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [source.name for source in files([tmp_path])] == ["a.JPG", "b.png", "deep/c.webp"]


def test_a_file_that_is_named_itself_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    file = tmp_path / "upload.bin"
    file.touch()
    assert files([file]) == [FileSource(file, "upload.bin")]


def test_a_url_stays_one_beside_files(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.touch()
    assert sources(["https://images.example.com/b.png", str(file)]) == [
        UrlSource("https://images.example.com/b.png"),
        FileSource(file, "a.png"),
    ]


def test_a_path_that_does_not_exist_is_wrong_use_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"nowhere\.png does not exist"):
        files([tmp_path / "nowhere.png"])


def test_a_folder_without_images_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="holds no images"):
        files([tmp_path])
