"""Retention and the erasure of a tenant: what went is nowhere, and what was to stay is whole."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli import app
from services.clients.audit import Audit, AuditFilter
from services.clients.cases import HardCases, Verdicts
from services.clients.datasets import Datasets
from services.clients.erasure_tenant import KEPT, REMOVED, TenantErasures
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.review_cases import ReviewCases
from services.core.access import Person, Role
from services.core.errors import Unavailable
from services.core.events import Decision
from services.core.policy import DEFAULT_POLICY
from services.core.retention import Cutoffs
from services.erasing import erase
from services.retaining import Removed, erase_tenant, retain
from services.stream.learn import Learn, Told
from tests.learning.test_erasure import Scene, everywhere, holding, scene, words
from tests.learning.world import World, box_mask, edited, picture

__all__ = ["scene"]

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=100)
NOTHING = Cutoffs(None, None, None, None)
PICTURES = replace(NOTHING, pictures=NOW - timedelta(days=30), samples=NOW - timedelta(days=30))


async def aged(world: World, *uploads: str) -> None:
    """These uploads came a hundred days ago."""
    async with world.database.connection() as connection:
        await connection.execute("update upload set accepted_at = %s where upload_id = any(%s)", [OLD, list(uploads)])


async def retained(world: World, before: Cutoffs, *, objects: Objects | None = None, batch: int = 2) -> Removed:
    return await retain(
        world.database, objects or world.objects, tenant="acme", before=before, batch=batch, told=lambda _: None
    )


async def test_a_picture_past_its_time_goes_from_everywhere_and_its_verdicts_stay(world: World, scene: Scene) -> None:
    await aged(world, "u-1", "u-3")
    went = await retained(world, PICTURES)
    assert went.done["pictures"] == 1
    assert await everywhere(world, *words(scene.forged)) == []
    assert holding(world, scene.data) == []
    for upload_id in ("u-1", "u-3"):
        verdict = await Ledger(world.database).latest("acme", upload_id)
        assert verdict is not None
        assert (verdict.decision, verdict.image, verdict.candidate) == (Decision.INCONCLUSIVE, None, None)
    sibling = await Ledger(world.database).latest("acme", "u-2")
    assert sibling is not None and sibling.image is not None
    assert await world.objects.exists(sibling.image.object_key)
    assert went.versions == {scene.version.name}


async def test_a_picture_that_came_again_is_as_young_as_its_last_upload(world: World, scene: Scene) -> None:
    await aged(world, "u-1")  # and u-3 is the same picture
    assert (await retained(world, PICTURES)).done.total() == 0
    assert len(holding(world, scene.data)) == 3


async def test_a_picture_that_somebody_vouches_for_stays(world: World, scene: Scene) -> None:
    await world.upload(picture(1), "u-8", mask=box_mask())  # the very original
    await aged(world, "u-8")
    assert (await retained(world, PICTURES)).done.total() == 0
    assert await world.objects.exists(scene.original.image.object_key)


async def test_a_picture_that_became_a_sample_stays_for_as_long_as_samples_do(world: World, scene: Scene) -> None:
    await aged(world, "u-1", "u-3")
    longer = replace(PICTURES, samples=OLD - timedelta(days=1))
    assert (await retained(world, longer)).done.total() == 0
    (version,) = await Datasets(world.database).versions(scene.version.name)
    assert version.state == "frozen"
    assert (await retained(world, replace(longer, samples=OLD + timedelta(days=1)))).done["pictures"] == 1


async def test_old_masks_go_and_their_verdicts_say_so(world: World, scene: Scene) -> None:
    key = await world.put_mask(box_mask())
    assert "ledger" in await everywhere(world, key)
    went = await retained(world, replace(NOTHING, masks=NOW), batch=1)
    assert went.done == {"masks": 3}  # u-1, u-2 and u-3
    assert [name for name in await everywhere(world, key) if name in ("ledger", "verdict", "hard_case")] == []
    assert not await world.objects.exists(key)
    verdict = await Ledger(world.database).latest("acme", "u-1")
    assert verdict is not None and verdict.image == scene.forged.image
    assert (verdict.mask, verdict.reasons[-1].code) == (None, "mask_expired")
    assert (await Verdicts(world.database).get("acme", "u-1"))[-1] == verdict
    assert (await retained(world, replace(NOTHING, masks=NOW))).done.total() == 0


async def test_old_verdicts_go_without_a_trace_once_their_picture_has(world: World, scene: Scene) -> None:
    await Audit(world.database).record(
        Person("kim", "Kim", Role.VIEWER), "picture_viewed", tenant="acme", upload_id="u-1"
    )
    everything = replace(NOTHING, verdicts=NOW)
    assert (await retained(world, everything)).done.total() == 0  # their pictures are there
    await aged(world, "u-1", "u-3")
    went = await retained(world, replace(PICTURES, verdicts=NOW), batch=1)
    assert (went.done["pictures"], went.done["verdicts"]) == (1, 2)
    assert await world.rows("select distinct upload_id from ledger") == [{"upload_id": "u-2"}]
    left = [name for name in await everywhere(world, "u-1", "u-3") if not name.startswith("datasets/")]
    assert left == []
    (entry,) = await Audit(world.database).find(AuditFilter())
    assert (entry.subject, entry.action, entry.upload_id) == ("kim", "picture_viewed", None)


async def test_cut_off_in_the_store_the_next_run_does_the_rest(world: World, scene: Scene) -> None:
    class Failing(Objects):
        async def delete(self, key: str) -> None:
            raise Unavailable("objects", "the store is away")

    await aged(world, "u-1", "u-2", "u-3")
    failing = Failing(f"file://{world.folder}")
    for before in (PICTURES, replace(NOTHING, masks=NOW)):
        with pytest.raises(Unavailable):
            await retained(world, before, objects=failing)
    failing.close()
    assert len(holding(world, scene.data)) >= 2
    assert (await retained(world, replace(PICTURES, masks=NOW))).done["pictures"] == 2
    assert await everywhere(world, *words(scene.forged), *words(scene.sibling)) == []


async def pentimento(world: World, *words: str, **settings: str) -> Result:
    """A command, in a thread: it has a loop of its own."""
    env = {name: value for name, value in world.environment().items() if name.startswith("PENTIMENTO_")}
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env={**env, **settings, "COLUMNS": "200"})


async def test_the_command_counts_first_and_removes_when_it_is_told_to(world: World, scene: Scene) -> None:
    await aged(world, "u-1", "u-3")
    rules = {"PENTIMENTO_RETENTION__TENANTS": '{"acme": {"pictures_days": 30}}'}
    counted = await pentimento(world, "retain", "--json", **rules)
    expected = {"tenant": "acme", "pictures": 1, "masks": 0, "verdicts": 0}
    assert json.loads(counted.stdout) == {**expected, "removed": False}
    assert len(holding(world, scene.data)) == 3
    assert (await pentimento(world, "retain", "--yes", "--tenant", "other", **rules)).exit_code == 0
    assert len(holding(world, scene.data)) == 3
    done = json.loads((await pentimento(world, "retain", "--yes", "--json", **rules)).stdout)
    assert done.items() >= {**expected, "removed": True}.items()
    assert done["rows"]["upload"] == 2
    assert holding(world, scene.data) == []
    (entry,) = await Audit(world.database).find(AuditFilter(action="retention_applied"))
    assert (entry.tenant, entry.details) == ("acme", {"pictures": 1, "masks": 0, "verdicts": 0})


# -- a tenant -------------------------------------------------------------------------------------------------------


async def test_an_erased_tenant_is_nowhere_but_in_what_says_that_it_was_erased(world: World, scene: Scene) -> None:
    kim = Person("kim", "Kim", Role.VIEWER)
    await Audit(world.database).record(kim, "picture_viewed", tenant="acme", upload_id="u-1")
    theirs = await world.upload(edited(picture(1)), "theirs", tenant="other", mask=box_mask())
    assert theirs.image == scene.forged.image
    before = {
        table: await world.rows(f"select * from {table} where tenant = 'other'") for table in ("ledger", "upload")
    }
    async with world.database.connection() as connection:
        await connection.execute(
            "insert into person (subject, name, role, tenants) values ('lee', 'Lee', 'viewer', '{acme,other}')"
        )
    went = await erase_tenant(world.database, world.objects, tenant="acme", by="kim", told=lambda _: None)
    assert (went.left, went.shared) == ([], 1)
    for table in REMOVED:
        assert await world.rows(f"select 1 from {table} where tenant = 'acme'") == [], table
    assert await world.rows("select 1 from packed_word") == []
    named = {name for name in await everywhere(world, "acme") if "/" not in name}
    assert named == {"audit", "erasure", "dataset_version"}
    assert await everywhere(world, *words(scene.original), *words(scene.sibling)) == []
    assert {table: await world.rows(f"select * from {table} where tenant = 'other'") for table in before} == before
    assert await world.objects.get(theirs.image.object_key, 10_000_000) == scene.data
    assert await world.rows("select tenants from person") == [{"tenants": ["other"]}]
    (entry,) = await Audit(world.database).find(AuditFilter(tenant="acme"))
    assert entry.upload_id is None
    again = await erase_tenant(world.database, world.objects, tenant="acme", by="kim", told=lambda _: None)
    assert (again.rows.total(), again.objects.total()) == (0, 0)


async def test_every_table_with_tenants_is_removed_from_or_kept_for_a_reason(world: World, scene: Scene) -> None:
    tables = await world.rows(
        "select c.relname as name from pg_attribute as a join pg_class as c on c.oid = a.attrelid "
        "where a.attname = 'tenant' and c.relkind in ('r', 'p') and not c.relispartition "
        "and c.relnamespace = 'public'::regnamespace"
    )
    assert {row["name"] for row in tables} == {*REMOVED, *KEPT}
    assert set(await TenantErasures(world.database).left("acme")) <= {str(row["name"]) for row in tables} | {
        str(row["name"]) for row in await world.rows("select inhrelid::regclass::text as name from pg_inherits")
    }


async def test_a_tenant_is_erased_only_by_whoever_writes_its_name_twice(world: World, scene: Scene) -> None:
    for confirm in ([], ["--yes"], ["--confirm", "Acme"]):
        refused = await pentimento(world, "erase", "--tenant", "acme", *confirm)
        assert refused.exit_code == 2
        assert "nothing was erased" in refused.stderr
    assert len(holding(world, scene.data)) == 3
    done = await pentimento(world, "erase", "--tenant", "acme", "--confirm", "acme", "--json")
    assert done.exit_code == 0, done.stderr
    proof = json.loads(done.stdout)
    assert (proof["tenant"], proof["left"], proof["shared"]) == ("acme", [], 0)
    assert (proof["rows"]["ledger"] >= 3, proof["objects"]["images"] >= 3, proof["objects"]["masks"] >= 2) == (
        True,
    ) * 3
    assert [path for path in world.folder.rglob("*") if path.is_file() and path.suffix not in (".tar", ".json")] == []
    (row,) = await world.rows("select tenant, erased_by, left_in from erasure")
    assert row["left_in"] == []


async def test_what_a_newer_list_of_erasures_says_is_erased_again_and_nothing_else(world: World, scene: Scene) -> None:
    assert (await pentimento(world, "erase", "--upload", "u-1", "--tenant", "acme", "--yes")).exit_code == 0
    listed = await pentimento(world, "erasures", "list")
    assert scene.forged.image.sha256 not in listed.stdout
    file = world.folder.parent / "erasures.jsonl"
    file.write_text(listed.stdout)
    same = await world.upload(edited(picture(1)), "u-1", mask=box_mask())
    assert same.image == scene.forged.image
    known = await pentimento(world, "erasures", "again", str(file), "--json")  # it came after what is known of here
    assert (known.exit_code, known.stdout) == (0, "")
    async with world.database.connection() as connection:
        await connection.execute("delete from erasure")  # as a restored database that is older than the erasure
    again = await pentimento(world, "erasures", "again", str(file), "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["pictures"] == 1
    assert await everywhere(world, *words(scene.forged)) == []
    assert holding(world, scene.data) == []
    assert await Ledger(world.database).latest("acme", "u-2") is not None


# -- what Kafka brings again ----------------------------------------------------------------------------------------


async def test_a_verdict_that_kafka_brings_again_after_an_erasure_brings_no_picture_back(
    world: World, scene: Scene
) -> None:
    (message,) = await Verdicts(world.database).get("acme", "u-1")
    assert message.image is not None
    await erase(world.database, world.objects, tenant="acme", sha256=scene.forged.image.sha256, by="kim")
    async with world.database.connection() as connection:  # as after a restore, or where it was not projected yet
        await connection.execute("delete from verdict where upload_id = 'u-1'")
        await connection.execute("delete from verdict_history where upload_id = 'u-1'")
    learn = Learn(
        verdicts=Verdicts(world.database),
        hard_cases=HardCases(world.database),
        reviews=ReviewCases(world.database),
        ledger=Ledger(world.database),
        objects=world.objects,
        policy=DEFAULT_POLICY,
        now=lambda: NOW,
        told=Told(lambda verdict: None, lambda case: None),
    )
    assert await learn.verdict(message) == ()
    assert await Verdicts(world.database).get("acme", "u-1") == [await Ledger(world.database).latest("acme", "u-1")]
    assert await everywhere(world, *words(scene.forged)) == []
