"""`pentimento originals reindex` and `embedders`: vectors for what is registered, and what there is of them.

In: registered pictures that lack vectors of the embedder that is served. Out: their vectors, a few pictures at a time;
then that embedder is active. Nothing is noted on the way: what is missing is looked up anew, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    complain,
    fail,
    note,
    progress,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.originals_words import reindex_words
from services.clients.candidates import Picture
from services.clients.database import Database
from services.clients.embedders import Embedders, EmbedderState
from services.clients.embedding import Embedder
from services.clients.embeddings import After, Embedded, Embeddings, Missing
from services.clients.models import DEPENDENCY, Watch
from services.clients.objects import Objects
from services.core.errors import Rejected, Unavailable
from services.opening import open_embedder, open_objects
from services.settings import Settings

BULK = 5000  # pictures from which on the graphs of a version that is being built are built after all vectors are there
PAGE_EACH = 8  # pictures of a page for each worker
COLUMNS = ("embedder", "state", "pictures", "missing", "size", "oldest", "newest (UTC)")


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that could not be embedded, and why."""

    picture: Picture
    why: str


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What a run did: the embedder's version, pictures that now have vectors, those that failed, those of any tenant
    that still have none, and versions that were dropped. `active`: whether the version is.
    """

    embedder: str
    embedded: int
    failed: int
    missing: int
    active: bool
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reindex:
    """A run's parts and what was asked for. `tenant` None: all of them."""

    database: Database
    objects: Objects
    embedder: Embedder
    settings: Settings
    tenant: str | None = None
    workers: int = 2
    skip_failed: bool = False
    drop_old: bool = False

    @property
    def missing(self) -> Missing:
        """Earlier uploads are embedded too where the settings have their vectors kept."""
        return Missing(self.database, trusted=None if self.settings.embedder.register_uploads else True)


def reindex(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's; without it everybody's.")] = None,
    version: Annotated[
        str | None, typer.Option("--embedder-version", help="Stop unless the embedder serves this version.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Pictures in work at once.")] = 2,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Activate although some pictures could not be embedded.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Drop versions that were retired, once this one is active.")
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="Visual words instead of vectors; the embedder is not asked.")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Embed every registered original that has no vectors of the version that the embedder serves.

    When none is missing, of no tenant, that version is made the active one. Stopped, the same command goes on with what
    is missing. Lookup goes on meanwhile.

    With --words the originals that were registered while visual words were off get theirs.

    Example: pentimento originals reindex --workers 8 --drop-old
    """
    settings = settings_of(data)
    if words:
        reindex_words(settings, tenant, workers, as_json)
        return
    with progress() as bar:
        task = bar.add_task("embedding", total=None)

        def total(pictures: int) -> None:
            bar.update(task, total=pictures)

        def settled(failed: Failed | None) -> None:
            bar.advance(task)
            if failed is not None:
                _report(failed, as_json)

        done = asyncio.run(_reindex(settings, version, tenant, workers, skip_failed, drop_old, total, settled))
    if as_json:
        write_lines([_as_json(done)])
    else:
        note(_conclusion(done))
    if not done.active:
        fail(_what_to_do(done))


def embedders(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show the embedders whose vectors are in the index: pictures with and without, size on disk, and age.

    building: not every original has vectors of it yet. active: every one had, when `reindex` was through. retired:
    another one is active, and `reindex --drop-old` drops it.

    Example: pentimento originals embedders --json
    """
    settings = settings_of(data)
    found = asyncio.run(_states(settings))
    if as_json:
        write_lines(_state_as_json(state, missing) for state, missing in found)
        return
    write_table(COLUMNS, (_cells(state, missing) for state, missing in found))
    if not found:
        note("no picture was embedded yet: set PENTIMENTO_EMBEDDER__ENABLED, then `pentimento originals reindex`")


async def reindexed(
    run: Reindex, *, version: str | None, total: Callable[[int], None], settled: Callable[[Failed | None], None]
) -> Reindexed:
    """Embeds what is missing, and activates the served version where nothing is missing any more.

    `total` is told how many pictures there are to embed, `settled` of each that is done: None, or why it failed.
    Raises Unavailable; what was embedded until then stays.
    """
    served = await run.embedder.version()
    if version is not None and served != version:
        fail(f"the embedder serves {served}, not {version}: deploy that version, or leave --embedder-version out")
    count = await run.missing.count(run.tenant, served)
    total(count)
    done: list[bool] = []

    async def pictures() -> AsyncGenerator[Embedded, None]:
        async with aclosing(_embedded(run, served)) as outcomes:
            async for each in outcomes:
                settled(each if isinstance(each, Failed) else None)
                done.append(isinstance(each, Embedded))
                if isinstance(each, Embedded):
                    yield each

    await _kept(run, served, pictures(), count)
    missing = await run.missing.count(None, served)
    failed = done.count(False)
    result = Reindexed(served, done.count(True), failed, missing, active=False)
    nothing_there = await Embedders(run.database).find(served) is None
    if nothing_there or missing > (failed if run.skip_failed else 0):
        return result
    return await _activated(run, result)


async def _activated(run: Reindex, result: Reindexed) -> Reindexed:
    versions = Embedders(run.database)
    await versions.activate(result.embedder)
    dropped = []
    if run.drop_old:
        for state in await versions.state():
            if state.state == "retired" and await versions.drop(state.name):
                dropped.append(state.name)
    return Reindexed(result.embedder, result.embedded, result.failed, result.missing, True, tuple(dropped))


async def _kept(run: Reindex, served: str, pictures: AsyncGenerator[Embedded, None], count: int) -> None:
    """Puts vectors into the index as they come: as a bulk load where a whole library is new, else one by one."""
    embeddings, versions = Embeddings(run.database), Embedders(run.database)
    async with aclosing(pictures) as arriving:
        first = await anext(arriving, None)
        if first is None:
            return
        await versions.prepare(served, first.embedding.vectors.shape[1])
        there = await versions.find(served)

        async def all_of_them() -> AsyncIterator[Embedded]:
            yield first
            async for each in arriving:
                yield each

        if there is not None and there.state == "building" and count >= BULK:
            await embeddings.load(served, all_of_them())
            return
        async for each in all_of_them():
            await embeddings.add([each])


async def _embedded(run: Reindex, served: str) -> AsyncGenerator[Embedded | Failed, None]:
    """Every picture that is missing, embedded or not, a page at a time. A failed one is not tried again."""
    after: After | None = None
    room = asyncio.Semaphore(run.workers)

    async def one(picture: Picture) -> Embedded | Failed:
        async with room:
            try:
                data = await run.objects.get(picture.image.object_key, run.settings.intake.max_bytes)
                embedding = await run.embedder.embed(data)
            except Rejected as why:
                return Failed(picture, f"{why.message} ({why.code})")
        if embedding.embedder != served:
            raise Unavailable("embedder", f"it now serves {embedding.embedder}, not {served}: start the command again")
        return Embedded.of(picture, embedding)

    while page := await run.missing.page(run.tenant, served, limit=run.workers * PAGE_EACH, after=after):
        for outcome in await asyncio.gather(*(one(picture) for picture in page)):
            yield outcome
        after = After.picture(page[-1])


async def _reindex(
    settings: Settings,
    version: str | None,
    tenant: str | None,
    workers: int,
    skip_failed: bool,
    drop_old: bool,
    total: Callable[[int], None],
    settled: Callable[[Failed | None], None],
) -> Reindexed:
    embedder = open_embedder(settings.models, Watch())
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            run = Reindex(database, objects, embedder, settings, tenant, workers, skip_failed, drop_old)
            return await reindexed(run, version=version, total=total, settled=settled)
    except Unavailable as error:
        raise not_served(error) from error
    finally:
        await embedder.close()
        objects.close()


def not_served(error: Unavailable) -> Unavailable:
    """The error of a dependency that is away, with what to do."""
    hint = "; is the embedder served (`pentimento up --embedder`)?" if error.dependency == DEPENDENCY else ""
    return Unavailable(error.dependency, f"{error}{hint}; the same command goes on with what is missing")


async def _states(settings: Settings) -> list[tuple[EmbedderState, int]]:
    async with opened_database(settings) as database:
        missing = Missing(database, trusted=None if settings.embedder.register_uploads else True)
        return [(state, await missing.count(None, state.name)) for state in await Embedders(database).state()]


def _report(failed: Failed, as_json: bool) -> None:
    picture = failed.picture
    complain(f"original {picture.original_id} of tenant {picture.tenant} could not be embedded: {failed.why}")
    if as_json:
        write_lines([{"original_id": picture.original_id, "tenant": picture.tenant, "error": failed.why}])


def _conclusion(done: Reindexed) -> str:
    state = "is active" if done.active else "is not active yet"
    dropped = f"; dropped {', '.join(done.dropped)}" if done.dropped else ""
    return f"{done.embedded} pictures were embedded by {done.embedder}, which {state}{dropped}"


def _what_to_do(done: Reindexed) -> str:
    """Why the version was not activated."""
    if not done.missing:
        return (
            "no originals are registered, so there is nothing to embed: `pentimento originals add DIR` registers some"
        )
    if done.failed and done.missing <= done.failed:
        return (
            f"{done.failed} pictures could not be embedded, so {done.embedder} was not activated: remove them "
            "(`pentimento originals remove`) and run it again, or add --skip-failed to go without them"
        )
    return (
        f"{done.missing} pictures of all tenants still have no vectors of {done.embedder}, so it was not activated: "
        "run `pentimento originals reindex` without --tenant"
    )


def _as_json(done: Reindexed) -> dict[str, object]:
    return {
        "embedder": done.embedder,
        "embedded": done.embedded,
        "failed": done.failed,
        "missing": done.missing,
        "active": done.active,
        "dropped": list(done.dropped),
    }


def _cells(state: EmbedderState, missing: int) -> tuple[str, ...]:
    ages = [f"{each.astimezone(UTC):%Y-%m-%d %H:%M}" if each else "" for each in (state.oldest, state.newest)]
    return (state.name, state.state, str(state.pictures), str(missing), f"{state.size_bytes / 1e6:.0f} MB", *ages)


def _state_as_json(state: EmbedderState, missing: int) -> dict[str, object]:
    return {
        "embedder": state.name,
        "state": state.state,
        "dimensions": state.dimensions,
        "pictures": state.pictures,
        "missing": missing,
        "vectors": state.vectors,
        "size_bytes": state.size_bytes,
        "oldest": state.oldest.astimezone(UTC).isoformat() if state.oldest else None,
        "newest": state.newest.astimezone(UTC).isoformat() if state.newest else None,
    }
