"""Shards: pictures, masks and facts in tar files, as WebDataset reads them. Pure.

In: members, three files of one stem a sample. Out: a tar's bytes, the same for the same members whenever and wherever
they are packed: no times, owners or modes of anybody's. The format is https://github.com/webdataset/webdataset's.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.core.errors import Broken
from services.core.learn.samples import Split

ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif"}

MOST_BYTES = 2_000_000_000
"""Bytes of a shard at most: one that is full already may get one more sample, whatever its size."""


@dataclass(frozen=True, slots=True)
class Member:
    """A sample in a shard: its picture as it was uploaded, its mask as an 8-bit grey PNG of the picture's upright size
    (0..255 = probability), and its facts, of which `id` is the stem and `format` the ending of the picture."""

    picture: bytes
    mask: bytes
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.facts["id"])


def shard_key(version: str, split: Split, number: int) -> str:
    """Where a shard lies in the object store."""
    return f"datasets/{version}/{split}/shard-{number:06}.tar"


def index_key(version: str) -> str:
    """Where a version's list of shards lies in the object store."""
    return f"datasets/{version}/index.json"


def index_file(version: Mapping[str, Any]) -> tuple[str, bytes, str]:
    """Key, bytes and content type of the list of a version's shards."""
    listed = json.dumps(version, indent=1, sort_keys=True).encode()
    return index_key(str(version["version"])), listed, "application/json"


def digest(shard: bytes) -> str:
    """A shard's SHA-256."""
    return hashlib.sha256(shard).hexdigest()


def pack(members: Iterable[Member]) -> bytes:
    """A shard of these members, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            facts = json.dumps(member.facts, sort_keys=True).encode()
            ending = ENDINGS[member.facts["format"]]
            for name, data in ((ending, member.picture), ("mask.png", member.mask), ("json", facts)):
                entry = tarfile.TarInfo(f"{member.id}.{name}")
                entry.size, entry.mode = len(data), 0o444
                tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def unpack(shard: bytes) -> Iterator[Member]:
    """The members of a shard. Raises Broken where it is none of ours."""
    try:
        with tarfile.open(fileobj=io.BytesIO(shard), mode="r:") as tar:
            files = [(entry.name, _read(tar, entry)) for entry in tar]
    except tarfile.TarError as error:
        raise Broken(f"a shard is no tar file: {error}") from error
    if len(files) % 3:
        raise Broken(f"a shard has {len(files)} files, which are not three a sample")
    for place in range(0, len(files), 3):
        (picture, picture_data), (mask, mask_data), (facts, facts_data) = files[place : place + 3]
        if len({name.partition(".")[0] for name in (picture, mask, facts)}) > 1:
            raise Broken(f"a shard has {picture}, {mask} and {facts} side by side, which are not of one sample")
        yield Member(picture_data, mask_data, json.loads(facts_data))


def without(shard: bytes, ids: Collection[str]) -> bytes:
    """The shard packed anew without these samples."""
    return pack(member for member in unpack(shard) if member.id not in ids)


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    if file is None:
        raise Broken(f"a shard has {entry.name}, which is no file")
    return file.read()
