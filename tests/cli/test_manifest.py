"""The manifest of a library: rows as they are read, bad ones by their line, and which were sent before."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.manifest import BadRow, Row, SentRows, read_manifest
from services.cli.sources import FileSource
from tests.cli.conftest import Pentimento


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "library.csv"


def rows_of(manifest: Path, text: str | bytes) -> list[Row | BadRow]:
    manifest.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_manifest(manifest, source="library"))


def row(line: int, path: str = "a.jpg", name: str | None = None, source: str = "library") -> Row:
    return Row(line, path, FileSource(Path("folder") / path, name or path), source)


def test_a_row_names_its_file_below_the_manifests_folder(manifest: Path) -> None:
    assert rows_of(manifest, "path\nharbour/boats.jpg\n./x/../b.jpg\n") == [
        Row(2, "harbour/boats.jpg", FileSource(manifest.parent / "harbour/boats.jpg", "harbour/boats.jpg"), "library"),
        Row(3, "b.jpg", FileSource(manifest.parent / "b.jpg", "b.jpg"), "library"),
    ]


def test_a_row_may_say_its_name_and_who_vouches_for_it(manifest: Path) -> None:
    text = "\ufeffsource,path,name\nagency,a.jpg,Boats at dawn.jpg\n,b.jpg,\n"
    assert [(each.picture.name, each.source) for each in rows_of(manifest, text) if isinstance(each, Row)] == [
        ("Boats at dawn.jpg", "agency"),
        ("b.jpg", "library"),
    ]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("../secret.jpg,n", "outside the manifest's folder"),
        ("a/../../secret.jpg,n", "outside the manifest's folder"),
        ("/etc/passwd,n", "outside the manifest's folder"),
        (",n", "path is empty"),
        ("a.jpg", "1 cells for 2 columns"),
        ("a.jpg,Boats, at dawn", "needs quotes"),
        ("a\0.jpg,n", "NUL"),
        (f"{'x' * 200_000},n", "no CSV"),
    ],
    ids=["up", "up from below", "absolute", "empty", "short", "long", "nul", "endless"],
)
def test_a_bad_row_is_told_with_its_line_and_the_rest_goes_on(manifest: Path, bad: str, why: str) -> None:
    before, told, after = rows_of(manifest, f'path,name\n"a.jpg","two\nlines"\n\n{bad}\nb.jpg,b\n')
    assert isinstance(before, Row)
    assert isinstance(told, BadRow)
    assert told.line == 5
    assert why in told.why
    assert isinstance(after, Row)
    assert (after.line, after.path) == (6, "b.jpg")


def test_a_source_that_is_too_long_for_the_event_is_a_bad_row(manifest: Path) -> None:
    short, long = rows_of(manifest, f"path,source\na.jpg,{'x' * 200}\nb.jpg,{'x' * 201}\n")
    assert isinstance(short, Row)
    assert isinstance(long, BadRow)


def test_bytes_that_are_no_utf8_are_one_missing_file_and_not_the_end(manifest: Path) -> None:
    first, second = rows_of(manifest, b"path\ncaf\xe9.jpg\nb.jpg\n")
    assert isinstance(first, Row)
    assert first.path == "caf\ufffd.jpg"
    assert isinstance(second, Row)


def test_rows_are_read_as_they_are_asked_for(manifest: Path) -> None:
    manifest.write_text("path\n" + "a.jpg\n" * 200_000)
    reading = read_manifest(manifest, source="library")
    next(reading)
    with manifest.open("a") as opened:
        opened.write("the-last.jpg\n")
    *_, last = reading
    assert isinstance(last, Row)
    assert last.path == "the-last.jpg"


@pytest.mark.parametrize("text", ["", "file,name\na.jpg,a\n"])
def test_a_manifest_without_a_path_column_is_wrong_use(pentimento: Pentimento, manifest: Path, text: str) -> None:
    manifest.write_text(text)
    told = pentimento("originals", "import", manifest)
    assert told.status == 2
    assert "has no column path" in told.stderr
    assert not manifest.with_name("library.csv.done").exists()


def test_a_row_that_was_noted_is_known_to_the_next_run_until_it_starts_over(manifest: Path) -> None:
    with SentRows(manifest) as sent:
        assert row(2).key("acme") not in sent
        sent.add(row(2).key("acme"))
        assert row(9).key("acme") in sent  # the line it stands on does not matter
    with SentRows(manifest) as sent:
        assert row(2).key("acme") in sent
        for other in (row(2, "b.jpg"), row(2, name="b"), row(2, source="agency")):
            assert other.key("acme") not in sent
        assert row(2).key("other") not in sent
    with SentRows(manifest, again=True) as sent:
        assert row(2).key("acme") not in sent
    assert manifest.with_name("library.csv.done").read_text() == ""


def test_a_note_is_on_the_disk_before_the_run_ends(manifest: Path) -> None:
    with SentRows(manifest) as sent:
        sent.add(row(2).key("acme"))
        assert manifest.with_name("library.csv.done").read_text() == row(2).key("acme") + "\n"


def test_a_note_that_was_cut_off_counts_as_none_and_spoils_no_other(manifest: Path) -> None:
    first, second, third = (row(2, name).key("acme") for name in ("a.jpg", "b.jpg", "c.jpg"))
    manifest.with_name("library.csv.done").write_text(f"{first}\nnothing of ours\n{second[:20]}")
    with SentRows(manifest) as sent:
        assert first in sent
        assert second not in sent
        sent.add(third)
    with SentRows(manifest) as sent:
        assert [key in sent for key in (first, second, third)] == [True, False, True]


def test_the_key_of_a_row_does_not_follow_from_where_the_command_runs(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (absolute,) = rows_of(manifest, "path\na.jpg\n")
    monkeypatch.chdir(manifest.parent)
    (relative,) = read_manifest(Path(manifest.name), source="library")
    assert isinstance(absolute, Row)
    assert isinstance(relative, Row)
    assert absolute.key("acme") == relative.key("acme")


def test_a_state_file_that_cannot_be_written_ends_the_command_with_advice(
    pentimento: Pentimento, manifest: Path
) -> None:
    manifest.write_text("path\na.jpg\n")
    manifest.with_name("library.csv.done").mkdir()
    told = pentimento("originals", "import", manifest)
    assert told.status == 1
    assert "make its folder writable" in told.stderr
