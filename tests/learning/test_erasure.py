"""Erasure: afterwards nothing in PostgreSQL and nothing in the object store names or holds the picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from services.cli import app
from services.clients.annotations import AnnotatedCase, Annotations
from services.clients.candidates import METHOD, Candidates, Picture, bits
from services.clients.cases import Verdicts
from services.clients.datasets import Datasets, Version
from services.clients.embedders import Embedders
from services.clients.embeddings import Embedded, Embeddings
from services.clients.late import LateQueue
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.rejudge import RejudgeQueue
from services.clients.samples import Samples
from services.clients.upload_words import UploadWords
from services.clients.word_packing import WordPacking
from services.core.erasure import content_mark
from services.core.errors import Broken, Unavailable
from services.core.events import Decision
from services.core.events import Path as JudgedBy
from services.core.intake.keys import features_key, incoming_key
from services.core.intake.lookup import features_of
from services.core.intake.regions import Embedding
from services.core.intake.words import VisualWords
from services.core.learn.samples import Caps
from services.erasing import Erased, erase
from tests.clients.examples import NOON
from tests.learning.world import SIDE, World, box_mask, edited, picture
from trainer.samples.freezing import Freezer
from trainer.samples.reading import examples, folder, shards


@dataclass(frozen=True)
class Scene:
    """A forged upload that is everywhere, its original, and another upload that was made from the same original."""

    forged: Picture
    data: bytes
    original: Picture
    sibling: Picture
    version: Version


def drawn(place: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[place : place + 30, place : place + 30] = 255
    return mask


@pytest.fixture
async def scene(world: World) -> Scene:
    original = await world.register(picture(1), trusted=True, name="the original")
    forged = await world.upload(edited(picture(1)), "u-1", against=original, mask=box_mask(), priority=0.9)
    sibling = await world.upload(edited(edited(picture(1))), "u-2", against=forged, mask=drawn(5), priority=0.8)
    await _again(world, "u-3")
    await world.review("u-1", Decision.MANIPULATED, mask=drawn(100))
    await _taken_by_the_index(world, forged)
    for place in (100, 5):
        key = await world.put_mask(drawn(place))
        kept = AnnotatedCase("kept", "machine", "spg", 0.1, 0.9, original.image.sha256, key, key)
        await world.annotate_by_hand(kept)
    for labelled in await Annotations(world.database).kept("acme"):
        await Samples(world.database).add(labelled)
    freezer = Freezer(Samples(world.database), Datasets(world.database), world.objects)
    choice = await freezer.choice(["acme"], Caps())
    version = await freezer.freeze(choice, tenants=["acme"], caps=Caps(), now=NOON)
    data = await world.objects.get(forged.image.object_key, 10_000_000)
    await world.objects.put(incoming_key(forged.image.sha256), data, "image/png")
    await world.objects.put(features_key(forged.image.sha256, METHOD), features_of(data), "application/octet-stream")
    words = VisualWords("words-1", np.array([[17], [4]]), np.array([1, 2]))
    await UploadWords(world.database, "words-1").keep("acme", forged.image.sha256, words)
    await WordPacking(world.database).pack()
    return Scene(forged, data, original, sibling, version)


async def _again(world: World, upload_id: str) -> None:
    """The same bytes once more, answered from the ledger."""
    (first, *_) = await Verdicts(world.database).get("acme", "u-1")
    again = first.model_copy(update={"upload_id": upload_id, "path": JudgedBy.REUSED, "reused_from": "u-1"})
    await Ledger(world.database).claim(again)
    await Verdicts(world.database).project(again)
    async with world.database.connection() as connection:
        assert again.image is not None
        await connection.execute("insert into upload values ('acme', %s, %s)", [upload_id, again.image.sha256])


async def _taken_by_the_index(world: World, forged: Picture) -> None:
    """Vectors, a place in the queue of late originals, and an entry of the stop list around it."""
    await Embedders(world.database).prepare("regions-1", 8)
    vectors = np.eye(8, dtype=np.float32)[:5]
    await Embeddings(world.database).add([Embedded.of(forged, Embedding("regions-1", vectors))])
    late = await world.register(picture(30), trusted=True, name="late")
    async with world.database.connection() as connection:
        await connection.execute(
            "insert into late (tenant, upload_id, original_sha256, original_id) values ('acme', 'u-1', %s, 'late')",
            [late.image.sha256],
        )
        await connection.execute("insert into rejudge_run (chosen, models) values ('{}', '{}')")
        await connection.execute(
            "insert into rejudge (run, tenant, upload_id, revision, decision, path) "
            "select id, 'acme', 'u-1', 0, 'inconclusive', 'unconstrained' from rejudge_run"
        )
        await connection.execute(
            "insert into stop_entry (tenant, reason, trusted, pdq, radius, seen) "
            "values ('acme', 'crowded', false, %s::bit(256), 72, 51)",
            [bits(forged.fingerprint.pdq)],
        )
        await connection.execute("update candidate set stopped_by = (select max(id) from stop_entry)")
        await connection.execute(
            "insert into kept_answer (person, route, key, fingerprint, token, status, body) "
            "values ('ada', '/api/v1/uploads', 'k', 'f', 't', 202, %s)",
            [f'{{"sha256": "{forged.image.sha256}"}}'],
        )


async def everywhere(world: World, *needles: str) -> list[str]:
    """Every table with a row whose text has one of the words, and every object that has."""
    found = []
    tables = "select tablename from pg_tables where schemaname = 'public' order by tablename"
    for row in await world.rows(tables):
        table = row["tablename"]
        rows = [str(each["row"]) for each in await world.rows(f'select each::text as row from "{table}" as each')]
        hexed = [needle.encode().hex() for needle in needles]  # as bytea shows text
        found += [f"{table}" for text in rows if any(needle in text for needle in (*needles, *hexed))]
    for path in world.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            named = any(needle.encode() in data or needle in str(path) for needle in needles)
            found += [str(path.relative_to(world.folder))] if named else []
    return found


def holding(world: World, data: bytes) -> list[str]:
    """Every object that has these bytes in it."""
    return [str(path) for path in world.folder.rglob("*") if path.is_file() and data in path.read_bytes()]


def words(of: Picture) -> tuple[str, ...]:
    return (of.image.sha256, of.fingerprint.pdq, bits(of.fingerprint.pdq))


async def erased(world: World, of: Picture, tenant: str = "acme") -> Erased:
    return await erase(world.database, world.objects, tenant=tenant, sha256=of.image.sha256, by="kim")


async def test_the_scene_is_everywhere_before(world: World, scene: Scene) -> None:
    tables = {name for name in await everywhere(world, *words(scene.forged)) if "/" not in name}
    assert tables >= {
        "annotation", "candidate", "content", "geometry", "hard_case", "hard_case_reason", "ledger",
        "sample", "sample_picture", "stop_entry", "upload", "verdict", "verdict_history",
    }  # fmt: skip
    assert any(name.startswith("embedding_1_") for name in tables)
    assert len(holding(world, scene.data)) == 3  # images/, incoming/ and a shard


async def test_afterwards_it_is_nowhere(world: World, scene: Scene) -> None:
    done = await erased(world, scene.forged)
    assert done.left == ()
    assert await everywhere(world, *words(scene.forged)) == []
    assert holding(world, scene.data) == []
    assert await world.rows("select 1 from embedding") == []
    assert await world.rows("select 1 from packed_word where octet_length(postings) > 0") == []
    assert await world.rows("select 1 from candidate where stopped_by is not null") == []


async def test_verdicts_keep_ids_and_decision_and_the_sibling_keeps_its_picture(world: World, scene: Scene) -> None:
    before = await Ledger(world.database).latest("acme", "u-2")
    await erased(world, scene.forged)
    for upload_id in ("u-1", "u-3"):
        for verdict in (
            await Ledger(world.database).latest("acme", upload_id),
            (await Verdicts(world.database).get("acme", upload_id))[-1],
        ):
            assert verdict is not None
            assert (verdict.upload_id, verdict.decision) == (upload_id, Decision.INCONCLUSIVE)
            assert (verdict.image, verdict.mask, verdict.candidate, verdict.filename) == (None, None, None, None)
            assert verdict.reasons[0].code == "erased"
    after = await Ledger(world.database).latest("acme", "u-2")
    assert before is not None and after is not None
    assert (after.image, after.mask, after.candidate) == (before.image, before.mask, None)
    assert after.mask is not None and await world.objects.exists(after.mask.object_key)


async def test_a_verdict_that_lost_its_original_is_not_reused_as_one_without(world: World, scene: Scene) -> None:
    await erased(world, scene.forged)
    reused = await Ledger(world.database).reusable(
        "acme", scene.sibling.image.sha256, models=[], policy_version="default-0123456789", candidate_sha256=None
    )
    assert reused is None


async def test_a_frozen_version_is_marked_and_the_rest_of_it_can_be_read(world: World, scene: Scene) -> None:
    fetch = folder(world.folder)

    def names() -> set[str]:
        splits = [shards(fetch, scene.version.name, split) for split in ("train", "validation", "test")]
        return {str(each.facts["sha256"]) for files in splits for each in examples(fetch, files, seed=0)}

    assert names() == {scene.forged.image.sha256, scene.sibling.image.sha256}
    done = await erased(world, scene.forged)
    assert done.versions == (scene.version.name,)
    (version,) = await Datasets(world.database).versions(scene.version.name)
    assert version.state == "erased"
    assert names() == {scene.sibling.image.sha256}
    assert json.loads(fetch(f"datasets/{version.name}/index.json"))["state"] == "erased"


async def test_a_version_that_was_being_written_is_discarded(world: World, scene: Scene) -> None:
    async with world.database.connection() as connection:
        await connection.execute("update dataset_version set state = 'writing'")
    await erased(world, scene.forged)
    assert await Datasets(world.database).versions() == []
    assert list((world.folder / "datasets").rglob("*.tar")) == []
    assert holding(world, scene.data) == []


async def test_an_original_goes_from_the_verdicts_and_samples_that_it_proved(world: World, scene: Scene) -> None:
    data = await world.objects.get(scene.original.image.object_key, 10_000_000)
    done = await erased(world, scene.original)
    assert done.left == ()
    assert await everywhere(world, *words(scene.original)) == []
    assert holding(world, data) == []
    samples = await Samples(world.database).of(["acme"])
    assert [sample.of.original_sha256 for sample in samples] == [None, None]
    assert len({sample.group for sample in samples}) == 1


async def test_what_another_tenant_has_stays_for_them(world: World, scene: Scene) -> None:
    theirs = await world.upload(edited(picture(1)), "theirs", tenant="other", mask=box_mask())
    assert theirs.image == scene.forged.image
    done = await erased(world, scene.forged)
    assert (done.shared, done.left) == (True, ())
    assert await world.objects.get(theirs.image.object_key, 10_000_000) == scene.data
    assert await Candidates(world.database).known(theirs.image.sha256) is not None
    verdict = await Ledger(world.database).latest("other", "theirs")
    assert verdict is not None and verdict.image == theirs.image
    assert verdict.mask is not None and await world.objects.exists(verdict.mask.object_key)
    ours = await world.rows(
        f"select 1 from candidate where tenant = 'acme' and sha256 = '{theirs.image.sha256}' union all "
        f"select 1 from ledger where tenant = 'acme' and position('{theirs.image.sha256}' in event) > 0"
    )
    assert ours == []
    assert (await erased(world, theirs, tenant="other")).left == ()
    assert await everywhere(world, theirs.image.sha256) == []
    assert holding(world, scene.data) == []


async def test_a_mask_that_another_picture_has_too_stays(world: World, scene: Scene) -> None:
    await world.upload(edited(picture(7)), "u-7", mask=box_mask())
    done = await erased(world, scene.forged)
    key = await world.put_mask(box_mask())
    assert key not in done.objects
    assert len([each for each in done.objects if each.startswith("masks/")]) == 1


async def test_that_something_was_erased_is_kept_without_saying_what(world: World, scene: Scene) -> None:
    await erased(world, scene.forged)
    (row,) = await world.rows("select * from erasure")
    assert (row["tenant"], row["erased_by"], row["left_in"]) == ("acme", "kim", [])
    assert row["content_mark"] == content_mark(scene.forged.image.sha256)
    counts: Any = row["counts"]
    assert (counts["ledger"], counts["upload"], counts["sample"]) == (3, 2, 1)


async def test_cut_off_in_the_store_nothing_is_forgotten_and_the_next_call_ends_it(world: World, scene: Scene) -> None:
    class Failing(Objects):
        async def delete(self, key: str) -> None:
            if key.startswith("incoming/"):
                raise Unavailable("objects", "the store is away")
            await super().delete(key)

    failing = Failing(f"file://{world.folder}")
    with pytest.raises(Unavailable):
        await erase(world.database, failing, tenant="acme", sha256=scene.forged.image.sha256, by="kim")
    failing.close()
    assert "upload" in await everywhere(world, scene.forged.image.sha256)
    await erased(world, scene.forged)
    assert await everywhere(world, *words(scene.forged)) == []
    assert holding(world, scene.data) == []
    assert (await erased(world, scene.forged)).rows == {}


async def test_a_table_that_nobody_thought_of_is_found(world: World, scene: Scene) -> None:
    async with world.database.connection() as connection:
        await connection.execute("create table forgotten (facts jsonb, raw bytea)")
        await connection.execute(
            "insert into forgotten values (%s::jsonb, %s)",
            [json.dumps({"sha256": scene.forged.image.sha256}), scene.forged.image.sha256.encode()],
        )
    try:
        assert (await erased(world, scene.forged)).left == ("forgotten.facts", "forgotten.raw")
    finally:
        async with world.database.connection() as connection:
            await connection.execute("drop table forgotten")


async def test_the_picture_is_not_waited_for_to_be_judged_again(world: World, scene: Scene) -> None:
    assert await RejudgeQueue(world.database).waiting() == 1
    await erased(world, scene.forged)
    assert await LateQueue(world.database).waiting() == (0, None)
    assert await RejudgeQueue(world.database).waiting() == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--yes"], "name one picture"),
        (["a" * 64, "--upload", "u-1", "--yes"], "name one picture"),
        (["xyz", "--yes"], "no SHA-256"),
        (["a" * 64], "add --yes"),
    ],
)
def test_wrong_use_of_the_command_erases_nothing(tmp_path: Path, arguments: list[str], why: str) -> None:
    environment = {"PENTIMENTO_DATA_DIR": str(tmp_path), "COLUMNS": "200"}
    result = CliRunner().invoke(app, ["erase", *arguments], env=environment)
    assert result.exit_code == 2
    assert why in result.stderr


async def test_a_freeze_that_an_erasure_overtakes_leaves_no_shard(world: World, scene: Scene) -> None:
    asked: list[str] = []

    class Overtaken(Objects):
        async def get(self, key: str, max_bytes: int) -> bytes:
            data = await super().get(key, max_bytes)
            asked.append(key)
            if len(asked) == 4:  # both pictures and both masks are read, and the shard is about to be written
                await erased(world, scene.forged)
            return data

    async with world.database.connection() as connection:
        await connection.execute("update dataset_version set state = 'writing'")
    overtaken = Overtaken(f"file://{world.folder}")
    freezer = Freezer(Samples(world.database), Datasets(world.database), overtaken)
    choice = await freezer.choice(["acme"], Caps())
    with pytest.raises(Broken):
        await freezer.freeze(choice, tenants=["acme"], caps=Caps(), now=NOON)
    overtaken.close()
    assert holding(world, scene.data) == []


async def test_a_case_that_was_erased_while_it_was_in_work_leaves_no_row(world: World, scene: Scene) -> None:
    annotations = Annotations(world.database)
    (case, *_) = await annotations.open("acme", "another/1", limit=1)
    await erased(world, scene.forged)
    await annotations.record(case, "another/1", AnnotatedCase("failed", "machine", error="gone"))
    assert await everywhere(world, scene.forged.image.sha256) == []
