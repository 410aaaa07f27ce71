"""A frozen dataset version, read for a fit: pictures with their masks, shuffled, always in the same order for a seed.

In: the version's shards, from a folder or the object store. Out: an iterator. Torch-free. One shard is in memory at a
time: shards come in a drawn order, and so do the samples of each. Samples lie in shards by the hash of their id, so
that each shard is a draw of the whole already.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from services.clients.objects import Objects
from services.core.errors import Broken
from services.core.learn.samples import Split
from services.core.learn.shards import MOST_BYTES, Member, digest, index_key, unpack
from services.core.pixels import open_image, read_mask_png

MARKED = 128
"""Grey level of a mask from which on a pixel is marked: a probability of one half."""

Fetch = Callable[[str], bytes]
"""The bytes of an object by its key."""


@dataclass(frozen=True, slots=True)
class Example:
    """`picture` [H,W,3] uint8 sRGB, upright; `mask` [H,W] bool, true where it was edited; what is known of the two."""

    picture: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A shard by its key, with the SHA-256 that its bytes must have."""

    object_key: str
    sha256: str
    samples: int


def folder(root: Path) -> Fetch:
    """Objects that lie as files below a folder, such as the embedded stack's."""
    return lambda key: (root / key).read_bytes()


def stored(objects: Objects) -> Fetch:
    """Objects in a store. Not from within an event loop."""
    return lambda key: asyncio.run(objects.get(key, MOST_BYTES))


def shards(fetch: Fetch, version: str, split: Split) -> list[ShardFile]:
    """The shards of one side of a version. Raises what `fetch` raises where there is no such version."""
    index = json.loads(fetch(index_key(version)))
    found = [shard for shard in index["shards"] if shard["split"] == split]
    return [ShardFile(shard["object_key"], shard["sha256"], shard["samples"]) for shard in found]


def examples(fetch: Fetch, files: Sequence[ShardFile], *, seed: int, epoch: int = 0) -> Iterator[Example]:
    """Every sample of these shards once, in an order that seed and epoch decide.

    Raises Broken where a shard's bytes are not those that were frozen, or a mask has not its picture's size.
    """
    rng = np.random.default_rng((seed, epoch))
    for place in rng.permutation(len(files)):
        file = files[place]
        data = fetch(file.object_key)
        if digest(data) != file.sha256:
            raise _not_frozen(file)
        members = list(unpack(data))
        for chosen in rng.permutation(len(members)):
            yield _example(members[chosen])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample lies in a shard's file: offset and bytes of its picture and of its mask."""

    shard: Path
    picture: tuple[int, int]
    mask: tuple[int, int]
    facts: Mapping[str, Any]

    def member(self) -> Member:
        """The sample itself."""
        with self.shard.open("rb") as file:
            picture, mask = (_part(file, *span) for span in (self.picture, self.mask))
        return Member(picture, mask, self.facts)


def places(root: Path, version: str, split: Split) -> list[Place]:
    """Where every sample of one side of a version lies, below a folder; always in the same order.

    For those who want samples in an order of their own. Raises Broken where the version is not there, or a shard's
    bytes are not those that were frozen.
    """
    fetch = folder(root)
    try:
        files = shards(fetch, version, split)
        for file in files:
            if digest(fetch(file.object_key)) != file.sha256:
                raise _not_frozen(file)
        return [place for file in files for place in _places(root / file.object_key)]
    except OSError as error:
        text = f"{root} does not hold all of dataset version {version}: {error}. Give the object store's folder"
        raise Broken(text) from error


def _places(shard: Path) -> Iterator[Place]:
    with tarfile.open(shard, mode="r:") as tar:
        entries = tar.getmembers()
    for first in range(0, len(entries), 3):
        picture, mask, facts = ((each.offset_data, each.size) for each in entries[first : first + 3])
        with shard.open("rb") as file:
            yield Place(shard, picture, mask, json.loads(_part(file, *facts)))


def _part(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _not_frozen(file: ShardFile) -> Broken:
    return Broken(f"shard {file.object_key} is not the one that was frozen: fetch it and index.json again")


def _example(member: Member) -> Example:
    picture = open_image(member.picture).rgb
    mask = read_mask_png(member.mask)[0] >= MARKED
    if mask.shape != picture.shape[:2]:
        raise Broken(f"sample {member.id} has a picture of {picture.shape[:2]} and a mask of {mask.shape} pixels")
    return Example(picture, mask, member.facts)
