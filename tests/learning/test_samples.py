"""The manifest, its sides, and frozen versions: the same samples are the same bytes, and a fit can read them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from services.clients.annotations import AnnotatedCase, Annotations
from services.clients.datasets import Datasets, Version
from services.clients.samples import Samples
from services.core.errors import Broken, Rejected
from services.core.learn.samples import Caps, Kind, Labelled, Sample, group_named, split_of
from tests.clients.examples import NOON, sha256_of, stored
from tests.learning.world import BOX, SIDE, World, box_mask, edited, picture
from trainer.samples.freezing import Freezer
from trainer.samples.reading import examples, folder, shards
from trainer.samples.sheet import page, statistics

ALL = Caps()


def labelled(word: str, original: str | None, *, annotator: str = "pair/1", kind: Kind = "spg") -> Labelled:
    of = None if original is None else sha256_of(original)
    return Labelled("acme", stored(word), "masks/one.png", of, kind, 0.1, 0.9, "machine", annotator)


def originals_on(*, side: str, count: int = 1) -> list[str]:
    """Words whose pictures start a group on a side."""
    words = (f"original {number}" for number in range(1000))
    return [word for word in words if split_of(group_named(sha256_of(word))) == side][:count]


async def add(world: World, *those: Labelled) -> list[Sample]:
    """Adds them in turn; all of them as they stand afterwards."""
    samples = Samples(world.database)
    for each in those:
        await samples.add(each)
    return await samples.of(["acme"])


async def test_pictures_that_share_an_original_are_on_one_side(world: World) -> None:
    (test,) = originals_on(side="test")
    found = await add(world, labelled("a", test), labelled("b", test), labelled("c", "a"), labelled("d", "c"))
    assert {sample.split for sample in found} == {"test"}
    assert len({sample.group for sample in found}) == 1


async def test_adding_again_or_all_at_once_adds_each_sample_once(world: World) -> None:
    samples = Samples(world.database)
    added = await asyncio.gather(*(samples.add(labelled("a", "one")) for _ in range(8)))
    assert sum(sample is not None for sample in added) == 1
    assert await samples.add(labelled("a", "one")) is None
    assert len(await samples.of(["acme"])) == 1
    assert await samples.of(["other"]) == []


async def test_when_groups_of_two_sides_meet_the_later_one_is_set_aside_and_not_moved(world: World) -> None:
    (train,), (test,) = originals_on(side="train"), originals_on(side="test")
    await add(world, labelled("old", train), labelled("late", test))
    found = {
        sample.of.image.sha256: sample for sample in await add(world, labelled("link", train), labelled(train, test))
    }
    old, late, link = found[sha256_of("old")], found[sha256_of("late")], found[sha256_of(train)]
    assert (old.split, old.set_aside) == ("train", None)
    assert (late.split, late.group) == ("test", old.group)
    assert late.set_aside is not None and old.group in late.set_aside
    assert (link.split, link.set_aside) == ("train", None)
    again = await add(world, labelled("late", test, annotator="pair/2"))
    assert again[-1].set_aside == late.set_aside


async def test_groups_of_one_side_that_meet_stay_in_use(world: World) -> None:
    first, second = originals_on(side="train", count=2)
    found = await add(world, labelled("a", first), labelled("b", second), labelled(first, second))
    assert {(sample.split, sample.set_aside, sample.group) for sample in found} == {("train", None, found[0].group)}


async def test_kept_annotations_become_samples_once_and_a_moderators_word_only_once_too(world: World) -> None:
    await world.upload(picture(1), "u-1")
    key = await world.put_mask(box_mask())
    drawn = AnnotatedCase("kept", "moderator", "drawn", 0.06, 1.0, mask_key=key)
    for annotator in ("pair/1", "pair/2"):
        await world.annotate_by_hand(drawn, annotator=annotator)
    annotations, samples = Annotations(world.database), Samples(world.database)
    (waiting,) = await annotations.kept("acme")
    assert (waiting.annotator, waiting.kind, waiting.mask_key) == ("moderator", "drawn", key)
    assert await samples.add(waiting) is not None
    assert await annotations.kept("acme") == []


@pytest.fixture
async def manifest(world: World) -> list[Sample]:
    """Twelve uploads, edited ones with masks and authentic ones without, as PNG and JPEG, on all sides."""
    samples = Samples(world.database)
    key = await world.put_mask(box_mask())
    for number in range(12):
        kind: Kind = "authentic" if number % 4 == 3 else "spg"
        rgb = picture(number) if kind == "authentic" else edited(picture(number))
        found = await world.register(rgb, trusted=False, name=f"u-{number}", kind=(".png", ".jpg")[number % 2])
        mask = None if kind == "authentic" else key
        area = 0.0 if kind == "authentic" else 0.0615
        await samples.add(Labelled("acme", found.image, mask, None, kind, area, None, "machine", "pair/1"))
    return await samples.of(["acme"])


async def frozen(world: World, *, caps: Caps = ALL, shard_bytes: int = 300_000, minutes: int = 0) -> Version:
    freezer = Freezer(Samples(world.database), Datasets(world.database), world.objects)
    choice = await freezer.choice(["acme"], caps)
    now = NOON + timedelta(minutes=minutes)
    return await freezer.freeze(choice, tenants=["acme"], caps=caps, now=now, shard_bytes=shard_bytes)


def tars(world: World, version: Version) -> dict[str, str]:
    """The SHA-256 of every shard that lies in the store."""
    found = (world.folder / "datasets" / version.name).rglob("*.tar")
    return {str(path.relative_to(world.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


async def test_the_same_samples_are_the_same_version_and_the_same_bytes(world: World, manifest: list[Sample]) -> None:
    first = await frozen(world)
    there = tars(world, first)
    assert first.state == "frozen"
    assert {shard.object_key: shard.digest for shard in first.shards} == there
    assert len(there) > 3
    assert await frozen(world, minutes=5) == first
    async with world.database.connection() as connection:
        for table in ("dataset_sample", "dataset_shard", "dataset_version"):
            await connection.execute(f"delete from {table}")
    for path in (world.folder / "datasets").rglob("*.tar"):
        path.unlink()
    assert (await frozen(world, minutes=9)).name == first.name
    assert tars(world, first) == there
    assert len(await Datasets(world.database).samples(first.name)) == len(manifest)


async def test_other_caps_are_another_version(world: World, manifest: list[Sample]) -> None:
    every, capped = await frozen(world), await frozen(world, caps=Caps(per_class=1), minutes=1)
    assert every.name != capped.name
    assert [version.name for version in await Datasets(world.database).versions()] == [capped.name, every.name]
    trained = [each for each in await Datasets(world.database).samples(capped.name) if each.split == "train"]
    assert sorted(each.of.kind for each in trained) == ["authentic", "spg"]


async def test_a_freeze_that_was_cut_off_goes_on(world: World, manifest: list[Sample]) -> None:
    class Killed(Exception):
        pass

    seen: list[None] = []

    def advance() -> None:
        seen.append(None)
        if len(seen) == 7:
            raise Killed

    freezer = Freezer(Samples(world.database), Datasets(world.database), world.objects, advance=advance)
    choice = await freezer.choice(["acme"], ALL)
    with pytest.raises(Killed):
        await freezer.freeze(choice, tenants=["acme"], caps=ALL, now=NOON, shard_bytes=300_000)
    (begun,) = await Datasets(world.database).versions()
    assert begun.state == "writing"
    finished = await frozen(world, shard_bytes=5)  # what was written down counts
    assert (finished.name, finished.state, finished.created_at) == (begun.name, "frozen", begun.created_at)
    assert sum(shard.samples for shard in finished.shards) == len(manifest)
    assert {shard.object_key: shard.digest for shard in finished.shards} == tars(world, finished)


async def test_a_picture_that_is_gone_stops_the_freeze_with_what_to_do(world: World, manifest: list[Sample]) -> None:
    gone = manifest[0].of.image
    await world.objects.delete(gone.object_key)
    with pytest.raises(Rejected, match=f"pentimento erase {gone.sha256}"):
        await frozen(world)


def read(world: World, version: Version, *, seed: int = 0, epoch: int = 0) -> list[str]:
    fetch = folder(world.folder)
    files = shards(fetch, version.name, "train")
    return [str(example.facts["id"]) for example in examples(fetch, files, seed=seed, epoch=epoch)]


async def test_every_training_sample_is_read_once_in_an_order_that_the_seed_decides(
    world: World, manifest: list[Sample]
) -> None:
    version = await frozen(world)
    first = read(world, version)
    assert sorted(first) == sorted(sample.id for sample in manifest if sample.split == "train")
    assert read(world, version) == first
    assert read(world, version, seed=1) != first
    assert read(world, version, epoch=1) != first


async def test_pictures_are_read_with_their_masks(world: World, manifest: list[Sample]) -> None:
    version = await frozen(world)
    fetch = folder(world.folder)
    for example in examples(fetch, shards(fetch, version.name, "train"), seed=3):
        assert (example.picture.shape, example.picture.dtype) == ((SIDE, SIDE, 3), np.uint8)
        expected = np.zeros((SIDE, SIDE), bool)
        if example.facts["kind"] != "authentic":
            expected[BOX] = True
        assert np.array_equal(example.mask, expected)


async def test_a_shard_that_is_not_the_frozen_one_is_noticed(world: World, manifest: list[Sample]) -> None:
    version = await frozen(world)
    for shard in version.shards:
        path = world.folder / shard.object_key
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Broken, match="not the one that was frozen"):
        read(world, version)


async def test_shards_have_the_uploads_own_bytes(world: World, manifest: list[Sample]) -> None:
    version = await frozen(world)
    by_id = {sample.id: sample.of.image for sample in manifest}
    pictures = {}
    for shard in version.shards:
        with tarfile.open(fileobj=io.BytesIO((world.folder / shard.object_key).read_bytes())) as tar:
            for entry in tar:
                stem, _, ending = entry.name.partition(".")
                if ending in ("jpg", "png"):
                    file = tar.extractfile(entry)
                    assert file is not None
                    pictures[stem] = hashlib.sha256(file.read()).hexdigest()
    assert pictures == {identity: image.sha256 for identity, image in by_id.items()}


async def test_the_page_needs_nothing_else_and_shows_each_example(
    world: World, manifest: list[Sample], tmp_path: Path
) -> None:
    version = await frozen(world)
    fetch = folder(world.folder)
    found = list(examples(fetch, shards(fetch, version.name, "train"), seed=0))
    text = page(version.name, statistics(manifest), found)
    assert text.count("data:image/jpeg;base64,") == len(found)
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert version.name in text


def test_statistics_count_what_is_in_use_and_say_why_the_rest_is_not() -> None:
    many = [_counted(number) for number in range(120)]
    numbers = statistics([*many, _counted(120, set_aside="related to group g, which is in test")])
    assert numbers["samples"] == 120
    assert numbers["kinds"] == {"authentic": 40, "spg": 80}
    assert numbers["areas"] == {"< 1 %": 0, "1-5 %": 0, "5-20 %": 80, "> 20 %": 0}
    assert numbers["set_aside"] == {"related to group g, which is in test": 1}
    assert numbers["training"]["formats"]["JPEG"]["pixels"] == {"low": 640 * 480, "high": 640 * 480}


def _counted(number: int, set_aside: str | None = None) -> Sample:
    kind: Kind = "authentic" if number % 3 == 0 else "spg"
    of = labelled(f"counted {number}", None, kind=kind)
    return Sample(str(number), of, f"g-{number // 2}", "train", set_aside)


def test_a_statistic_of_nothing_is_zeros() -> None:
    nothing: Sequence[Sample] = []
    assert statistics(nothing)["samples"] == 0
    assert statistics(nothing)["training"] is None
