"""Dataset versions: frozen choices of samples, and the shards that hold them.

In: a choice of samples. Out: a version by name, first `writing`, then `frozen` for good, or `erased` where a sample of
it was erased since. Written down before its shards are, so that one that was cut off goes on with the same choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from services.clients.database import Connection, Database
from services.clients.samples import sample_of
from services.core.learn.samples import Sample, Split

State = Literal["writing", "frozen", "erased"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard in the object store: `digest` is its SHA-256."""

    object_key: str
    split: Split
    digest: str
    size_bytes: int
    samples: int


@dataclass(frozen=True, slots=True)
class Version:
    """A dataset version. `digest` is over the ids of the samples that were chosen, and gives the name."""

    name: str
    digest: str
    tenants: tuple[str, ...]
    parameters: Mapping[str, Any]
    state: State
    created_at: datetime
    shards: tuple[Shard, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything but the samples, as JSON values."""
        return {
            "version": self.name,
            "digest": self.digest,
            "tenants": list(self.tenants),
            "parameters": dict(self.parameters),
            "state": self.state,
            "created_at": self.created_at.astimezone(UTC).isoformat(),
            "shards": [
                {
                    "object_key": shard.object_key,
                    "split": shard.split,
                    "sha256": shard.digest,
                    "size_bytes": shard.size_bytes,
                    "samples": shard.samples,
                }
                for shard in self.shards
            ],
        }


class Datasets:
    """Dataset versions. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, version: Version, samples: Sequence[Sample]) -> Version:
        """Write a choice down, unless there is one of that name: the version as it stands."""
        row = {
            "name": version.name,
            "digest": version.digest,
            "tenants": list(version.tenants),
            "parameters": Jsonb(dict(version.parameters)),
            "created_at": version.created_at,
            "samples": [sample.id for sample in samples],
        }
        async with self._database.connection() as connection, connection.transaction():
            if (await connection.execute(_BEGIN, row)).rowcount:
                await connection.execute(_CHOOSE, row)
            return await version_in(connection, version.name)

    async def written(self, name: str, shard: Shard, ids: Sequence[str]) -> None:
        """A shard with these samples lies in the store. Repeating it changes nothing."""
        row = {"version": name, "ids": list(ids), **_shard_row(shard)}
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_SHARD, row)
            await connection.execute(_PLACE, row)

    async def finish(self, name: str) -> Version:
        """All shards of a version lie in the store."""
        async with self._database.connection() as connection:
            await connection.execute(_FINISH, {"name": name})
            return await version_in(connection, name)

    async def versions(self, name: str | None = None) -> list[Version]:
        """All versions, newest first, or the one of that name."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_VERSIONS, {"name": name})).fetchall()
            return [await version_in(connection, row["name"]) for row in rows]

    async def samples(self, name: str) -> list[Sample]:
        """The samples of a version, by id."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_SAMPLES, {"name": name})).fetchall()
        return [sample_of(row) for row in rows]


_BEGIN = """
insert into dataset_version (name, digest, tenants, parameters, created_at)
values (%(name)s, %(digest)s, %(tenants)s, %(parameters)s, %(created_at)s)
on conflict do nothing
"""
_CHOOSE = """
insert into dataset_sample (version, sample_id) select %(name)s, unnest(%(samples)s::text[]) on conflict do nothing
"""
_SHARD = """
insert into dataset_shard (version, object_key, split, digest, size_bytes, samples)
values (%(version)s, %(object_key)s, %(split)s, %(digest)s, %(size_bytes)s, %(samples)s)
on conflict (version, object_key) do update
    set digest = excluded.digest, size_bytes = excluded.size_bytes, samples = excluded.samples
"""
_PLACE = """
update dataset_sample set shard = %(object_key)s where version = %(version)s and sample_id = any(%(ids)s::text[])
"""
_FINISH = "update dataset_version set state = 'frozen' where name = %(name)s and state = 'writing'"
_VERSIONS = """
select name from dataset_version where %(name)s::text is null or name = %(name)s order by created_at desc, name
"""
_VERSION = "select * from dataset_version where name = %(name)s"
_SHARDS = "select * from dataset_shard where version = %(name)s order by object_key"
_SAMPLES = """
select sample.* from dataset_sample join sample on sample.id = sample_id where version = %(name)s order by sample.id
"""


async def version_in(connection: Connection, name: str) -> Version:
    """A version that is there, with its shards."""
    row = await (await connection.execute(_VERSION, {"name": name})).fetchone()
    assert row is not None  # versions are never deleted
    shards = await (await connection.execute(_SHARDS, {"name": name})).fetchall()
    return Version(
        name=name,
        digest=row["digest"],
        tenants=tuple(row["tenants"]),
        parameters=row["parameters"],
        state=row["state"],
        created_at=row["created_at"],
        shards=tuple(
            Shard(each["object_key"], each["split"], each["digest"], each["size_bytes"], each["samples"])
            for each in shards
        ),
    )


def _shard_row(shard: Shard) -> dict[str, Any]:
    return {
        "object_key": shard.object_key,
        "split": shard.split,
        "digest": shard.digest,
        "size_bytes": shard.size_bytes,
        "samples": shard.samples,
    }
