"""Lists come from everywhere: what can be used is, and the rest is named by its line."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.harvest.pictures import photo, png
from trainer.harvest.lists import NoList, read_pairs, read_pool, read_ps_battles
from trainer.harvest.sources import BadRow, Pair, Source

DIGEST = "ab" * 32


def test_pairs_of_urls_and_paths_carry_what_the_list_says_of_them(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(
        "forged,original,forged_sha256,license,author,original_author,notes\n"
        f'https://a.example/1.jpg,photos/1.jpg,{DIGEST.upper()},CC0,"Doe, J.",Ann,x\n'
    )
    assert list(read_pairs(file, {})) == [
        Pair(
            2,
            Source("https://a.example/1.jpg", sha256=DIGEST, licence="CC0", author="Doe, J."),
            Source("photos/1.jpg", tmp_path / "photos/1.jpg", author="Ann"),
        )
    ]


def test_columns_may_have_any_name_and_tabs_between_them(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text('fake\treal\trights\nhttps://a.example/"1.jpg\thttps://a.example/2.jpg\tCC0\n')
    (pair,) = read_pairs(file, {"forged": "fake", "original": "real", "forged_licence": "rights"})
    assert isinstance(pair, Pair) and pair.original is not None
    assert (pair.forged.place, pair.original.place) == ('https://a.example/"1.jpg', "https://a.example/2.jpg")
    assert pair.forged.licence == "CC0"


def test_a_bad_row_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    rows = [
        "a.jpg", "a.jpg,../../secret.jpg,", "/etc/passwd,b.jpg,", "file:///etc/passwd,b.jpg,", ",b.jpg,",
        "a.jpg,b.jpg,123", "", "a.jpg,b.jpg,",
    ]  # fmt: skip
    file.write_text("\n".join(["forged,original,sha256", *rows, ""]))
    found = list(read_pairs(file, {}))
    assert [entry.line for entry in found if isinstance(entry, BadRow)] == [2, 3, 4, 5, 6, 7]
    assert isinstance(found[-1], Pair) and found[-1].line == 9


def test_bytes_that_no_table_has_end_no_list(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_bytes(b"\xef\xbb\xbfforged,original\na\xff.jpg,b.jpg\nc\0.jpg,d.jpg\ne.jpg,f.jpg\n")
    found = list(read_pairs(file, {}))
    assert len(found) == 3
    assert isinstance(found[-1], Pair)


def test_a_list_without_its_columns_says_which(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("fake,real\na,b\n")
    with pytest.raises(NoList, match="no column forged and no column original: it has fake, real"):
        list(read_pairs(file, {}))
    with pytest.raises(NoList, match="cannot be read"):
        list(read_pairs(tmp_path / "none.csv", {}))


def test_ps_battles_is_joined_by_the_originals_ids(tmp_path: Path) -> None:
    common = "url\tend\thash\tfilesize\tscore\tauthor\tlink\ttimestamp\twidth\theight"
    tail = f"jpg\t{DIGEST}\t1\t2\tann\texample.org/r/1\t0\t10\t10"
    (tmp_path / "originals.tsv").write_text(f"id\t{common}\no1\thttp://i.example/o1.jpg\t{tail}\no2\t\t{tail}\n")
    (tmp_path / "photoshops.tsv").write_text(
        f"id\toriginal\t{common}\n"
        f"p1\to1\thttp://i.example/p1.jpg?1\t{tail}\np2\to2\thttp://i.example/p2.jpg\t{tail}\n"
        f"p3\tnone\thttp://i.example/p3.jpg\t{tail}\n"
    )
    said = {"sha256": DIGEST, "author": "ann", "page": "example.org/r/1"}
    pair, *bad = read_ps_battles(tmp_path)
    assert pair == Pair(2, Source("http://i.example/p1.jpg?1", **said), Source("http://i.example/o1.jpg", **said))
    assert [entry.line for entry in bad if isinstance(entry, BadRow)] == [3, 4]
    with pytest.raises(NoList, match="photoshops"):
        list(read_ps_battles(tmp_path / "elsewhere"))


def test_a_pool_is_a_folder_a_list_or_a_shard(tmp_path: Path) -> None:
    picture = png(photo(0, 64))
    folder = tmp_path / "pool"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.PNG", "deep/a.jpg", ".hidden.jpg", "notes.txt"):
        (folder / name).write_bytes(picture)
    assert [source.place for source in read_pool(folder, {}) if isinstance(source, Source)] == [
        "pool/b.PNG", "pool/deep/a.jpg",
    ]  # fmt: skip
    listed = tmp_path / "urls.csv"
    listed.write_text("link,url,license\nhttps://a.example,https://a.example/1.jpg,CC-BY\n")
    assert list(read_pool(listed, {})) == [Source("https://a.example/1.jpg", licence="CC-BY", page="https://a.example")]
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as archive:
        for name, data in (("x/1.jpg", picture), ("x/1.json", json.dumps({"license": "CC0", "n": 1}).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert list(read_pool(shard, {})) == [Source("shard.tar!x/1.jpg", shard, "x/1.jpg", licence="CC0")]
    shard.write_bytes(b"not a tar")
    with pytest.raises(NoList, match="no tar"):
        list(read_pool(shard, {}))
