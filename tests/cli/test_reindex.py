"""Embedding a library anew, on the real database with a tiny embedder: it goes on, ends, and says what failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from pydantic import SecretStr

from services.cli import originals_reindex
from services.cli.originals_reindex import Failed, Reindex, Reindexed, reindexed
from services.cli.originals_words import Worded, worded
from services.clients.candidates import Candidates, Originals, Picture
from services.clients.database import Database
from services.clients.embedders import Embedders
from services.clients.objects import Objects
from services.clients.preparation import PreparationQueue
from services.clients.words import WordIndex
from services.core.errors import Unavailable
from services.core.intake.examine import Limits, examine
from services.local.postgres import Postgres
from services.opening import open_vocabulary
from services.settings import EmbedderSettings, ObjectSettings, PostgresSettings, Settings, WordSettings
from tests.cli.conftest import SAMPLES
from tests.clients.conftest import dsn_of
from tests.clients.examples import picture
from tests.clients.tiny_embedder import TinyEmbedder

NAMES = ("pier", "windmill", "capsule")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Library:
    """Three originals of two tenants, and an earlier upload, none of them embedded."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self.database, self.objects, self.embedder = database, objects, TinyEmbedder()
        self.data: dict[str, bytes] = {}

    async def register(self, name: str, *, tenant: str = "acme", trusted: bool = True) -> None:
        places = (SAMPLES / folder / f"{name}.jpg" for folder in ("originals", "donors", "uploads"))
        data = self.data[name] = next(place for place in places if place.exists()).read_bytes()
        examined = examine(data, Limits())
        image = examined.stored(data, sha256(data).hexdigest())
        await self.objects.put(image.object_key, data, "image/jpeg")
        entry = Picture(tenant, name, image, examined.fingerprint, trusted, "library", NOON)
        await Candidates(self.database).register(entry)

    async def reindexed(self, version: str | None = None, **asked: Any) -> tuple[Reindexed, list[Failed]]:
        failed: list[Failed] = []
        run = Reindex(self.database, self.objects, self.embedder, asked.pop("settings", Settings()), **asked)
        done = await reindexed(
            run, version=version, total=lambda _: None, settled=lambda each: failed.append(each) if each else None
        )
        return done, failed


@pytest.fixture
async def library(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Library]:
    database = await Database.open(dsn_of(postgres, f"reindex_{uuid4().hex}"), pool_size=2, timeout_s=20)
    await database.migrate()
    made = Library(database, Objects(tmp_path.as_uri()))
    for name in NAMES[:2]:
        await made.register(name)
    await made.register(NAMES[2], tenant="other")
    await made.register("windmill-giraffe", trusted=False)
    yield made
    await database.close()


async def test_what_is_missing_is_embedded_once_and_the_version_is_activated_when_nothing_is(library: Library) -> None:
    done, _ = await library.reindexed(tenant="acme", workers=1)
    assert done == Reindexed("tiny-1", 2, 0, 1, active=False)
    done, _ = await library.reindexed()
    assert done == Reindexed("tiny-1", 1, 0, 0, active=True)
    there = await Embedders(library.database).find("tiny-1")
    assert there is not None and there.state == "active"
    assert (await library.reindexed())[0] == Reindexed("tiny-1", 0, 0, 0, active=True)
    assert library.embedder.asked == 3
    with_uploads = Settings(embedder=EmbedderSettings(register_uploads=True))
    assert (await library.reindexed(settings=with_uploads))[0].embedded == 1


async def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals_reindex, "PAGE_EACH", 1)
    embed = library.embedder.embed

    async def away_after_one(image: bytes) -> Any:
        library.embedder.away = library.embedder.asked >= 1
        return await embed(image)

    monkeypatch.setattr(library.embedder, "embed", away_after_one)
    with pytest.raises(Unavailable):
        await library.reindexed(workers=1)
    monkeypatch.setattr(library.embedder, "embed", embed)
    library.embedder.away = False
    assert (await library.reindexed())[0] == Reindexed("tiny-1", 2, 0, 0, active=True)


async def test_pictures_that_fail_are_named_and_keep_the_version_from_being_activated_unless_they_are_skipped(
    library: Library,
) -> None:
    library.embedder.refused.add(library.data["pier"])
    done, (failed,) = await library.reindexed()
    assert done == Reindexed("tiny-1", 2, 1, 1, active=False)
    assert failed.picture.original_id == "pier"
    assert "told to refuse it (corrupt)" in failed.why
    done, _ = await library.reindexed(skip_failed=True)
    assert done == Reindexed("tiny-1", 0, 1, 1, active=True)
    await Originals(library.database).remove("acme", ["pier"])
    assert (await library.reindexed())[0] == Reindexed("tiny-1", 0, 0, 0, active=True)


async def test_a_new_version_is_built_beside_the_old_one_which_is_then_dropped(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.reindexed()
    library.embedder.name = "tiny-2"
    monkeypatch.setattr(originals_reindex, "BULK", 1)  # as a bulk load
    done, _ = await library.reindexed(version="tiny-2")
    assert done == Reindexed("tiny-2", 3, 0, 0, active=True)
    states = {state.name: (state.state, state.pictures) for state in await Embedders(library.database).state()}
    assert states == {"tiny-1": ("retired", 3), "tiny-2": ("active", 3)}
    done, _ = await library.reindexed(drop_old=True)
    assert done.dropped == ("tiny-1",)
    assert [state.name for state in await Embedders(library.database).state()] == ["tiny-2"]


async def test_another_version_than_the_one_asked_for_stops_before_anything_is_done(library: Library) -> None:
    with pytest.raises(typer.Exit):
        await library.reindexed(version="tiny-9")
    assert await Embedders(library.database).state() == []


def test_a_model_server_without_an_embedder_is_told_apart_from_one_that_is_away() -> None:
    told = str(originals_reindex.not_served(Unavailable("models", "the model server has no such model (yet)")))
    assert "pentimento up --embedder" in told
    assert "the same command goes on" in told
    assert "--embedder" not in str(originals_reindex.not_served(Unavailable("postgres", "is away")))


async def test_originals_without_visual_words_get_them_and_what_cannot_be_read_is_named(
    library: Library, postgres: Postgres, tmp_path: Path
) -> None:
    """What `reindex --words` does: originals of two tenants, and one whose bytes have gone from the store."""
    await Candidates(library.database).register(picture("gone", trusted=True))
    async with library.database.connection() as connection:
        row = await (await connection.execute("select current_database() as name")).fetchone()
    settings = Settings(
        postgres=PostgresSettings(dsn=SecretStr(dsn_of(postgres, row["name"] if row else ""))),
        objects=ObjectSettings(url=tmp_path.as_uri()),
    )
    index, told = WordIndex(library.database, open_vocabulary().name), list[int]()
    queue = PreparationQueue(library.database)
    assert (await queue.waiting())[0] == 4
    done = await worded(settings, None, 1, total=told.append, settled=lambda: None)
    assert (done.done, [each.original_id for each, _ in done.failed], told) == (3, ["id-gone"], [4])
    assert [each.original_id for each in await index.missing(None, limit=9)] == ["id-gone"]
    assert await worded(settings, "other", 1, total=told.append, settled=lambda: None) == Worded(0, ())
    assert (await queue.waiting())[0] == 1  # whoever has words waits no longer to be prepared
    assert await queue.claim(lease_s=1) is None  # and the one that failed was kept from being tried twice at once


async def test_where_words_of_uploads_are_kept_what_has_its_words_still_waits_for_intake_to_seek_them(
    library: Library, postgres: Postgres, tmp_path: Path
) -> None:
    async with library.database.connection() as connection:
        row = await (await connection.execute("select current_database() as name")).fetchone()
    settings = Settings(
        postgres=PostgresSettings(dsn=SecretStr(dsn_of(postgres, row["name"] if row else ""))),
        objects=ObjectSettings(url=tmp_path.as_uri()),
        words=WordSettings(register_uploads=True),
    )
    done = await worded(settings, None, 1, total=lambda _: None, settled=lambda: None)
    assert done == Worded(3, ())
    assert (await PreparationQueue(library.database).waiting())[0] == 3
