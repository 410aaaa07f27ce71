"""The manifest of samples, and the groups that decide which side of the split each is on.

In: labelled pictures. Out: samples, in the order in which they were added. Rows are only ever added; a sample whose
group turned out to belong to one on another side is set aside with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.clients.annotations import labelled_of
from services.clients.database import Connection, Database
from services.core.learn.samples import (
    Group,
    Labelled,
    Sample,
    group_named,
    merged,
    sampled,
    set_aside_because,
    split_of,
)

MANIFEST_LOCK = 0x73616D70  # an advisory lock; the number spells "samp"


class Samples:
    """The manifest. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, labelled: Labelled) -> Sample | None:
        """Add a labelled picture; None where it is a sample already. One process adds at a time, the others wait.

        Where the picture was set aside before, its new sample is, too: it does not change sides either.
        """
        pictures = [name for name in (labelled.original_sha256, labelled.image.sha256) if name is not None]
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", [MANIFEST_LOCK])
            group = await _group_of(connection, pictures)
            sample = sampled(labelled, group)
            row = await (await connection.execute(_ADD, _row(sample))).fetchone()
        return replace(sample, set_aside=row["set_aside"]) if row else None

    async def of(self, tenants: Sequence[str]) -> list[Sample]:
        """Every sample of these tenants, in the order in which they were added."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_OF, {"tenants": list(tenants)})).fetchall()
        return [sample_of(row) for row in rows]


_GROUPS = """
select distinct sample_group.* from sample_picture join sample_group on sample_group.id = group_id
where sha256 = any(%(pictures)s::text[])
"""
_NEW_GROUP = """
insert into sample_group (id, split) values (%(id)s, %(split)s)
on conflict (id) do update set split = sample_group.split
returning *
"""
_JOIN = """
insert into sample_picture (sha256, group_id) select unnest(%(pictures)s::text[]), %(group)s on conflict do nothing
"""
_ABSORB_PICTURES = "update sample_picture set group_id = %(group)s where group_id = %(absorbed)s"
_ABSORB_SAMPLES = """
update sample set group_id = %(group)s, set_aside = coalesce(set_aside, %(why)s) where group_id = %(absorbed)s
"""
_FORGET_GROUP = "delete from sample_group where id = %(absorbed)s"
_ADD = """
insert into sample (id, tenant, sha256, object_key, size_bytes, width, height, format, mask_key, original_sha256, kind,
                    area, qes, source, annotator, group_id, split, set_aside)
values (%(id)s, %(tenant)s, %(sha256)s, %(object_key)s, %(size_bytes)s, %(width)s, %(height)s, %(format)s,
        %(mask_key)s, %(original_sha256)s, %(kind)s, %(area)s, %(qes)s, %(source)s, %(annotator)s, %(group)s,
        %(split)s,
        (select set_aside from sample where sha256 = %(sha256)s and set_aside is not null order by seq limit 1))
on conflict do nothing
returning set_aside
"""
_OF = "select * from sample where tenant = any(%(tenants)s::text[]) order by seq"


async def _group_of(connection: Connection, pictures: Sequence[str]) -> Group:
    """The one group of pictures that belong together: made, joined, or merged of several."""
    rows = await (await connection.execute(_GROUPS, {"pictures": list(pictures)})).fetchall()
    if not rows:
        identity = group_named(pictures[0])
        query = {"id": identity, "split": split_of(identity)}
        rows = await (await connection.execute(_NEW_GROUP, query)).fetchall()
    merger = merged([Group(row["id"], row["split"], row["seq"]) for row in rows])
    why = set_aside_because(merger.into)
    for group in merger.absorbed:
        moved = {"group": merger.into.id, "absorbed": group.id, "why": why if group in merger.set_aside else None}
        for statement in (_ABSORB_PICTURES, _ABSORB_SAMPLES, _FORGET_GROUP):
            await connection.execute(statement, moved)
    await connection.execute(_JOIN, {"pictures": list(pictures), "group": merger.into.id})
    return merger.into


def sample_of(row: Mapping[str, Any]) -> Sample:
    """The sample in a row of the manifest."""
    labelled = labelled_of(row, row["annotator"])
    return Sample(row["id"], labelled, row["group_id"], row["split"], row["set_aside"])


def _row(sample: Sample) -> dict[str, Any]:
    labelled = sample.of
    return labelled.image.model_dump() | {
        "id": sample.id,
        "tenant": labelled.tenant,
        "mask_key": labelled.mask_key,
        "original_sha256": labelled.original_sha256,
        "kind": labelled.kind,
        "area": labelled.area,
        "qes": labelled.qes,
        "source": labelled.source,
        "annotator": labelled.annotator,
        "group": sample.group,
        "split": sample.split,
    }
