"""One picture erased: rows, bytes, masks, and the shards that hold it. The function behind `pentimento erase`.

In: a tenant and the SHA-256 of a content. Out: what was removed, and what is left. Rows are committed last: cut off at
any moment, the same call does everything once more, and what is gone already is no error.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.clients.database import Database
from services.clients.erasure import Erasing, Erasures
from services.clients.objects import Objects
from services.core.learn.samples import SPLITS
from services.core.learn.shards import MOST_BYTES, digest, index_file, index_key, shard_key, without


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: `rows` by table, `objects` and `shards` by key, `versions` that are marked. `left` names
    columns that still name the picture. `shared`: another tenant has the same picture, and its bytes stay for them."""

    rows: dict[str, int]
    objects: tuple[str, ...]
    shards: tuple[str, ...]
    versions: tuple[str, ...]
    left: tuple[str, ...]
    shared: bool


async def erase(
    database: Database, objects: Objects, *, tenant: str, sha256: str, by: str, thorough: bool = True
) -> Erased:
    """Erase a content of a tenant. Repeating it erases what has come since. Raises Unavailable or Broken.

    Not `thorough`: found by indexes alone, not searched for afterwards, and not recorded, for whoever erases thousands.
    """
    async with Erasures(database).erasing(tenant, sha256, thorough=thorough) as erasing:
        found = erasing.found
        versions = tuple(sorted({part.version for part in found.shards}))
        await _repack(erasing, objects)
        for version in versions:
            await objects.put(*index_file((await erasing.version(version)).as_json()))
        for version in found.unfinished:
            await _discard(version, objects)
        for key in found.objects:
            await objects.delete(key)
        left = await erasing.left() if thorough else []
        if thorough:
            await erasing.record(by, left)
    shards = tuple(part.object_key for part in found.shards)
    return Erased(found.counts, found.objects, shards, versions, tuple(left), found.shared)


async def _repack(erasing: Erasing, objects: Objects) -> None:
    """Shards without the content, under the keys that they had."""
    for part in erasing.found.shards:
        data = without(await objects.get(part.object_key, MOST_BYTES), part.ids)
        await objects.put(part.object_key, data, "application/x-tar")
        await erasing.repacked(part, digest=digest(data), size_bytes=len(data))


async def _discard(version: str, objects: Objects) -> None:
    """Every shard that an unfinished version can have: they were written one after the other."""
    for split in SPLITS:
        number = 0
        while await objects.exists(key := shard_key(version, split, number)):
            await objects.delete(key)
            number += 1
    await objects.delete(index_key(version))
