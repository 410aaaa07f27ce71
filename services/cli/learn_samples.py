"""`pentimento learn samples`: annotations to samples, samples to dataset versions, and a look at both.

Thin: the work is `trainer.samples`', which is imported only when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    Commands,
    DataOption,
    JsonOption,
    TenantOption,
    fail,
    note,
    progress,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.erase import erase
from services.clients.annotations import Annotations
from services.clients.database import Database
from services.clients.datasets import Datasets, Version
from services.clients.objects import Objects
from services.clients.samples import Samples
from services.core.learn.samples import Caps, Sample, Split
from services.opening import open_objects
from services.settings import Settings

PICTURED = 60
MEGABYTE = 1_000_000

TenantsOption = Annotated[
    list[str] | None, typer.Option("--tenant", help="Whose samples; repeatable. Without it: those of `default`.")
]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A dataset version, `ds-...`.")]

samples = typer.Typer(
    cls=Commands,
    help="Samples and dataset versions: add, freeze, list, stats, sheet, erase.",
    no_args_is_help=True,
    add_completion=False,
)
samples.command()(erase)


@samples.command()
def add(tenant: TenantOption = "default", as_json: JsonOption = False, data: DataOption = None) -> None:
    """Add a tenant's kept annotations to the manifest, each once.

    A sample's side (train, validation, test) is that of its group: all pictures that share an original.

    Example: pentimento learn samples add --tenant acme
    """
    count = asyncio.run(added(settings_of(data), tenant, as_json))
    note(f"{count} samples of tenant {tenant} added")


@samples.command()
def freeze(
    tenant: TenantsOption = None,
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, help="Forged, and authentic, samples to train on at most.")
    ] = None,
    per_kind: Annotated[
        int | None, typer.Option("--per-kind", min=1, help="Samples of a kind (spg, sdg, ...) to train on at most.")
    ] = None,
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="Megabytes at which a shard is full.")] = 64,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Freeze the manifest as a dataset version: shards in the object store, below `datasets/<version>/`.

    The same samples are the same version with the same bytes. Stopped at any moment, the next run goes on.

    Example: pentimento learn samples freeze --tenant acme --per-class 5000
    """
    caps = Caps(per_class, per_kind)
    version = asyncio.run(_frozen(settings_of(data), tenant or ["default"], caps, shard_mb * MEGABYTE))
    _show([version], as_json)


@samples.command("list")
def list_versions(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List dataset versions, newest first. erased: a sample was erased since, and its shards hold it no more.

    Example: pentimento learn samples list --json
    """
    _show(asyncio.run(_versions(settings_of(data), None)), as_json)


@samples.command()
def stats(
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="A dataset version; without one, the manifest.")
    ] = None,
    tenant: TenantsOption = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Count the samples of a version, or of the manifest: sides, kinds, areas, what was set aside and why.

    With --json `training` has the ranges that a policy takes under that name, to know outliers by.

    Example: pentimento learn samples stats ds-0123456789ab --json
    """
    from trainer.samples.sheet import statistics

    numbers = statistics(asyncio.run(_samples(settings_of(data), version, tenant or ["default"])))
    if as_json:
        write_lines([{"version": version, **numbers}])
    else:
        write_table(("what", "how many"), [(name, str(value)) for name, value in numbers.items()])


@samples.command()
def sheet(
    version: VersionArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes.")] = Path("samples.html"),
    split: Annotated[Split, typer.Option("--split", help="The side whose samples are shown.")] = "train",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Samples in pictures at most.")] = PICTURED,
    data: DataOption = None,
) -> None:
    """Draw one HTML page about a version: its numbers, and pictures of its samples with the edit outlined.

    Example: pentimento learn samples sheet ds-0123456789ab --out samples.html
    """
    from trainer.samples.reading import examples, shards, stored
    from trainer.samples.sheet import page, statistics

    settings = settings_of(data)
    numbers = statistics(asyncio.run(_samples(settings, version, [])))
    objects = open_objects(settings.objects)
    try:
        fetch = stored(objects)
        found = examples(fetch, shards(fetch, version, split), seed=0)
        out.write_text(page(version, numbers, islice(found, limit)), encoding="utf-8")
    finally:
        objects.close()
    note(f"{out} shows {version}")


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, Objects]]:
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            yield database, objects
    finally:
        objects.close()


async def added(settings: Settings, tenant: str, as_json: bool) -> int:
    """Adds a tenant's kept annotations to the manifest. Returns how many were none before."""
    count = 0
    async with opened_database(settings) as database:
        waiting = await Annotations(database).kept(tenant)
        with progress(hidden=as_json) as bar:
            for labelled in bar.track(waiting, description="adding"):
                sample = await Samples(database).add(labelled)
                if sample is not None:
                    count += 1
                    if as_json:
                        write_lines([sample.facts() | {"group": sample.group, "set_aside": sample.set_aside}])
    return count


async def _frozen(settings: Settings, tenants: list[str], caps: Caps, shard_bytes: int) -> Version:
    from trainer.samples.freezing import Freezer

    async with _opened(settings) as (database, objects):
        with progress() as bar:
            task = bar.add_task("freezing", total=None)
            freezer = Freezer(Samples(database), Datasets(database), objects, advance=lambda: bar.advance(task))
            choice = await freezer.choice(tenants, caps)
            if not choice:
                fail(f"there are no samples of {', '.join(tenants)} to freeze: `pentimento learn samples add` first")
            bar.update(task, total=len(choice))
            return await freezer.freeze(
                choice, tenants=tenants, caps=caps, now=datetime.now(UTC), shard_bytes=shard_bytes
            )


async def _versions(settings: Settings, name: str | None) -> list[Version]:
    async with opened_database(settings) as database:
        return await Datasets(database).versions(name)


async def _samples(settings: Settings, version: str | None, tenants: list[str]) -> list[Sample]:
    """Those of a version, or of the manifest."""
    async with opened_database(settings) as database:
        if version is None:
            return await Samples(database).of(tenants)
        datasets = Datasets(database)
        if not await datasets.versions(version):
            fail(f"there is no dataset version {version}: see `pentimento learn samples list`")
        return await datasets.samples(version)


def _show(versions: list[Version], as_json: bool) -> None:
    if as_json:
        write_lines(version.as_json() for version in versions)
        return
    columns = ("version", "state", "frozen at", "samples", "shards", "tenants")
    write_table(columns, (_cells(version) for version in versions))


def _cells(version: Version) -> tuple[Any, ...]:
    when = f"{version.created_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    held = str(sum(shard.samples for shard in version.shards))
    return (version.name, version.state, when, held, str(len(version.shards)), ", ".join(version.tenants))
