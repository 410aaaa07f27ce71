"""Shards: the same members make the same bytes, any tar reader opens them, and samples can be taken out again."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from services.core.errors import Broken
from services.core.learn.shards import Member, index_file, pack, shard_key, unpack, without


def member(name: str, *, kind: str = "JPEG") -> Member:
    return Member(f"picture {name}".encode(), f"mask {name}".encode(), {"id": name, "format": kind, "area": 0.25})


FEW = [member("aa"), member("bb", kind="PNG"), member("cc", kind="WEBP")]


def test_the_same_members_are_the_same_bytes_for_ever() -> None:
    assert pack(FEW) == pack(iter(FEW))
    assert hashlib.sha256(pack(FEW)).hexdigest().startswith("83294f45eaf0fbf3")


def test_files_of_a_sample_share_a_stem_as_webdataset_wants_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(FEW))) as tar:
        names = tar.getnames()
        about = tar.extractfile("aa.json")
        assert about is not None
        facts = json.load(about)
    assert names == [
        "aa.jpg", "aa.mask.png", "aa.json", "bb.png", "bb.mask.png", "bb.json", "cc.webp", "cc.mask.png", "cc.json",
    ]  # fmt: skip
    assert facts == FEW[0].facts


def test_what_was_packed_is_unpacked() -> None:
    assert list(unpack(pack(FEW))) == FEW
    assert list(unpack(pack([]))) == []


def test_a_shard_without_some_samples_is_as_if_they_had_never_been_packed() -> None:
    assert without(pack(FEW), {"bb", "unknown"}) == pack([FEW[0], FEW[2]])


def test_what_is_no_shard_of_ours_is_broken() -> None:
    with pytest.raises(Broken, match="no tar"):
        list(unpack(b"no tar at all" * 100))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("aa.jpg", "bb.mask.png", "aa.json"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(Broken, match="not of one sample"):
        list(unpack(buffer.getvalue()))


def test_keys_and_the_index_lie_below_the_version() -> None:
    assert shard_key("ds-1", "train", 7) == "datasets/ds-1/train/shard-000007.tar"
    key, data, kind = index_file({"version": "ds-1", "shards": []})
    assert (key, json.loads(data)["version"], kind) == ("datasets/ds-1/index.json", "ds-1", "application/json")
