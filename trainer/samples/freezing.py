"""A dataset version made: samples chosen, packed into shards, and written down.

In: the manifest, caps, pictures and masks in the object store. Out: `datasets/<version>/` with shards and `index.json`,
and the version in PostgreSQL. The same samples are the same version, byte for byte. Cut off at any moment, the next
`freeze` goes on with the choice that was written down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime

import numpy as np

from services.clients.datasets import Datasets, Shard, Version
from services.clients.objects import Objects
from services.clients.samples import Samples
from services.core.errors import Broken, Rejected
from services.core.learn.samples import SPLITS, Caps, Sample, Split, chosen, counts, digest_of, version_name
from services.core.learn.shards import Member, digest, index_file, pack, shard_key
from services.core.pixels import encode_png

SHARD_BYTES = 64_000_000
"""Bytes of pictures and masks at which a shard is full."""

MOST_MASK_BYTES = 64_000_000


class Freezer:
    """Makes dataset versions. `advance` is told of each sample that was packed."""

    def __init__(
        self, samples: Samples, datasets: Datasets, objects: Objects, *, advance: Callable[[], None] = lambda: None
    ) -> None:
        self._samples = samples
        self._datasets = datasets
        self._objects = objects
        self._advance = advance

    async def choice(self, tenants: Sequence[str], caps: Caps) -> list[Sample]:
        """The samples that a version would have now."""
        return chosen(await self._samples.of(tenants), caps)

    async def freeze(
        self,
        choice: Sequence[Sample],
        *,
        tenants: Sequence[str],
        caps: Caps,
        now: datetime,
        shard_bytes: int = SHARD_BYTES,
    ) -> Version:
        """The version of a choice, all of its shards in the store. Raises Rejected where a picture or mask is gone."""
        whole = digest_of(choice)
        parameters = {**asdict(caps), "shard_bytes": shard_bytes, "counts": counts(choice)}
        asked = Version(version_name(whole), whole, tuple(sorted(tenants)), parameters, "writing", now)
        version = await self._datasets.begin(asked, choice)
        if version.state != "writing":
            return version
        for split in SPLITS:
            of_split = [sample for sample in choice if sample.split == split]
            await self._write(version, split, of_split, int(version.parameters["shard_bytes"]))
        (written,) = await self._datasets.versions(version.name)
        await self._objects.put(*index_file(replace(written, state="frozen").as_json()))
        return await self._datasets.finish(version.name)

    async def _write(self, version: Version, split: Split, samples: Sequence[Sample], shard_bytes: int) -> None:
        number = 0
        async for members in self._filled(samples, shard_bytes):
            data = pack(members)
            shard = Shard(shard_key(version.name, split, number), split, digest(data), len(data), len(members))
            await self._objects.put(shard.object_key, data, "application/x-tar")
            try:
                await self._datasets.written(version.name, shard, [member.id for member in members])
            except Broken:  # the version was discarded meanwhile, because one of its pictures was erased
                await self._objects.delete(shard.object_key)
                raise
            number += 1

    async def _filled(self, samples: Sequence[Sample], shard_bytes: int) -> AsyncIterator[list[Member]]:
        """The members of one shard after the other."""
        members: list[Member] = []
        size = 0
        for sample in samples:
            member = await self._member(sample)
            members.append(member)
            size += len(member.picture) + len(member.mask)
            self._advance()
            if size >= shard_bytes:
                yield members
                members, size = [], 0
        if members:
            yield members

    async def _member(self, sample: Sample) -> Member:
        image = sample.of.image
        try:
            picture = await self._objects.get(image.object_key, image.size_bytes)
            if sample.of.mask_key is None:
                mask = encode_png(np.zeros((image.height, image.width), np.uint8))
            else:
                mask = await self._objects.get(sample.of.mask_key, MOST_MASK_BYTES)
        except Rejected as error:
            text = f"sample {sample.id} cannot be packed: {error.message}. Erase it: pentimento erase {image.sha256}"
            raise Rejected(error.code, text) from error
        return Member(picture, mask, sample.facts())
