"""What is past its time removed, and a whole tenant erased: behind `pentimento retain` and `pentimento erase --tenant`.

In: a tenant, and moments or nothing. Out: how much went from where. Both go a piece at a time, and may be stopped at
any moment: the same call does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from services.clients.database import Database
from services.clients.erasure import Erasures
from services.clients.erasure_tenant import Again, TenantErasures
from services.clients.objects import Objects
from services.clients.retention import Retention
from services.core.erasure import tenant_mark, unknown
from services.core.retention import Cutoffs
from services.erasing import Erased, erase

BY = "retention"


@dataclass(slots=True)
class Removed:
    """What went: things by kind, rows by table, objects by the first part of their key, dataset versions that are
    marked. `left` names what should have gone and is still there; `shared` counts pictures that another tenant has."""

    done: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    shared: int = 0

    def add(self, erased: Erased) -> None:
        """One picture more."""
        self.done["pictures"] += 1
        self.rows.update(erased.rows)
        self.removed(erased.objects)
        self.objects["shards packed anew"] += len(erased.shards)
        self.versions |= set(erased.versions)
        self.shared += erased.shared

    def removed(self, keys: tuple[str, ...] | list[str]) -> None:
        """Objects more."""
        self.objects.update(key.split("/", 1)[0] for key in keys)


async def retain(
    database: Database, objects: Objects, *, tenant: str, before: Cutoffs, batch: int, told: Callable[[int], None]
) -> Removed:
    """Remove what is older than the cutoffs, oldest first: pictures, then masks, then verdicts without a picture.

    `told` hears of every `batch` or less that is done. Raises Unavailable or Broken.
    """
    found, kept = Removed(), Retention(database)
    while contents := await kept.pictures(tenant, before, limit=batch):
        await Erasures(database).forget_answers(contents)
        for sha256 in contents:
            found.add(await erase(database, objects, tenant=tenant, sha256=sha256, by=BY, thorough=False))
            told(1)
    while before.masks is not None:
        async with kept.forgetting_masks(tenant, before.masks, limit=batch) as (count, keys):
            for key in keys:
                await objects.delete(key)
        found.removed(keys)
        found.done["masks"] += count
        told(count)
        if count == 0:
            break
    while before.verdicts is not None:
        rows = await kept.forget_verdicts(tenant, before.verdicts, limit=batch)
        found.rows.update(rows)
        found.done["verdicts"] += rows.get("verdict", 0)
        told(rows.get("verdict", 0))
        if not rows.get("verdict"):
            break
    return found


async def erase_tenant(
    database: Database, objects: Objects, *, tenant: str, by: str, told: Callable[[int], None]
) -> Removed:
    """Erase all that there is of a tenant, and look whether it has gone. Repeating it erases what has come since.

    Raises Unavailable or Broken.
    """
    found, of_tenant = Removed(), TenantErasures(database)
    found.rows.update(await of_tenant.remove_words(tenant))
    after = ""
    while contents := await of_tenant.contents(tenant, after=after):
        await Erasures(database).forget_answers(contents)
        for after in contents:
            erased = await erase(database, objects, tenant=tenant, sha256=after, by=by, thorough=False)
            found.add(erased)
            found.left += [f"object {key}" for key in erased.objects if await objects.exists(key)]
            told(1)
    found.rows.update(await of_tenant.remove_rest(tenant))
    found.left += [f"{count} rows in {table}" for table, count in (await of_tenant.left(tenant)).items()]
    await of_tenant.record(tenant, by, found.rows, found.left)
    return found


async def erase_again(
    database: Database, objects: Objects, *, erasures: Iterable[Mapping[str, str]], by: str, told: Callable[[int], None]
) -> dict[str, Removed]:
    """Erase what a list of erasures (`Again.listed`) says and this database still has: after it was restored."""
    marks: dict[str, list[str]] = {}
    for each in unknown(erasures, await Again(database).listed()):
        marks.setdefault(each["tenant"], []).append(each["mark"])
    found: dict[str, Removed] = {}
    for tenant, of_tenant in marks.items():
        if tenant_mark(tenant) in of_tenant:
            found[tenant] = await erase_tenant(database, objects, tenant=tenant, by=by, told=told)
            continue
        found[tenant] = Removed()
        for sha256 in await Again(database).contents(tenant, of_tenant):
            erased = await erase(database, objects, tenant=tenant, sha256=sha256, by=by)
            found[tenant].add(erased)
            found[tenant].left += erased.left
            told(1)
    return found
