"""`pentimento models`, `promote`, `rollback` and `watch`: which version of a model serves.

In: a model's name, an archive or a version. Out: a version that serves, and tables of what is there. The work is
`services.promotion`'s.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer

from services.cli.connections import opened_database, opened_sender
from services.cli.console import (
    DataOption,
    JsonOption,
    complain,
    fail,
    note,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.clients.serving import Served
from services.clients.shadows import Agreement, Shadows
from services.core.errors import Broken, Unavailable
from services.core.learn.promotion import Promotion, Release, served
from services.promotion.opening import Pair, Promoting, opened
from services.settings import Settings

MODELS = ("constrained", "unconstrained")
COLUMNS = ("model", "version", "role", "workers", "waiting", "archive")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODELS[0]} or {MODELS[1]}.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the event and in the records.")]


@dataclass(frozen=True, slots=True)
class Row:
    """A version: its role (champion, previous, other), workers that are ready (None: not loaded), requests that wait,
    and its archive's SHA-256 where it can be loaded again."""

    model: str
    version: str
    role: str
    workers: int | None
    waiting: int
    archive: str | None


def models(
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Show how challengers of shadow runs agree with the verdicts."),
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show the versions of the models: which one serves, which are loaded, which can be promoted.

    champion: should serve, and where it does not, `pentimento watch` or `promote` mends that.

    Examples: `pentimento models --json`, `pentimento models --shadow`
    """
    if shadow:
        _show_agreement(asyncio.run(_agreement(settings_of(data))), as_json)
        return
    rows = asyncio.run(_rows(settings_of(data)))
    if as_json:
        write_lines(asdict(row) for row in rows)
    else:
        write_table(COLUMNS, (_cells(row) for row in rows))


def promote(
    model: ModelArgument,
    what: Annotated[str, typer.Argument(metavar="ARCHIVE|VERSION", help="A model archive, or a version of `models`.")],
    reason: ReasonOption = "promoted by hand",
    minutes: Annotated[
        float, typer.Option("--watch", metavar="MIN", min=0, help="Watch it so long, and roll back if it does worse.")
    ] = 0.0,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Only load it beside the one that serves, for a shadow run.")
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Take the version, or `challenger`, from this registry in MLflow."),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let a version of a model serve, without losing a request; the version before it stays loaded.

    It may be repeated: broken off at any moment, it goes on. The model server must let models be loaded (pentimento up
    --promotions).

    Examples: `pentimento promote unconstrained archives/unconstrained.mar --reason "gate passed" --watch 10`,
    `pentimento promote unconstrained challenger --registry sqlite:///registry/mlflow.db`
    """
    settings = settings_of(data)
    _known(model)
    archive = _registered(model, what, registry) if registry else _archive(model, Path(what))

    async def run() -> tuple[Promotion | None, str | None]:
        async with promoting_opened(settings) as promoting:
            version = what
            if archive is not None:
                version, content = archive
                await promoting.promoter.add(model, version, content)
            if shadow:
                await promoting.promoter.load(model, version)
                note(f"{model} {version} is loaded. Start judges with PENTIMENTO_SHADOW__VERSION={version}")
                raise typer.Exit
            done = await promoting.promoter.promote(model, version, reason=reason)
            newest = done or await _newest(promoting, model)
            trouble = None
            if minutes and newest is not None:
                note(f"{model} {version} serves; watching it for {minutes:g} minutes")
                trouble = await promoting.watcher.watch(newest, for_s=60 * minutes)
            return done, trouble

    done, trouble = asyncio.run(run())
    _say(done, model, as_json)
    if trouble is not None:
        fail(f"rolled back: {trouble}")
    if registry is not None and archive is not None:
        _name_champion(model, archive[0], registry)


def rollback(
    model: ModelArgument,
    reason: ReasonOption = "rolled back by hand",
    of: Annotated[
        str | None, typer.Option("--of", metavar="VERSION", help="Only if this version serves; else nothing is done.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let the version serve again that served before.

    Example: pentimento rollback unconstrained --reason "flags every screenshot"
    """
    _known(model)

    async def run() -> Promotion | None:
        async with promoting_opened(settings_of(data)) as promoting:
            return await promoting.promoter.rollback(model, reason=reason, of=of)

    _say(asyncio.run(run()), model, as_json)


def watch(
    model: ModelArgument,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="How long.")] = 60.0,
    again: Annotated[
        float | None, typer.Option("--again", metavar="MIN", min=0, help="Begin anew after such a pause, for ever.")
    ] = None,
    data: DataOption = None,
) -> None:
    """See to it that the champion serves, also after a restart of the model server, and roll it back if it does worse.

    Where it did well for all that time, the versions before it are unloaded; they can be promoted again. With --again
    it is a program to run beside each of several model servers, which then follow a promotion on one of them.

    Examples: `pentimento watch unconstrained --minutes 60`, `pentimento watch unconstrained --minutes 10 --again 1`
    """
    _known(model)
    settings = settings_of(data)
    while again is not None:
        try:
            trouble = asyncio.run(_watched(settings, model, minutes))
        except (Unavailable, Broken) as error:
            trouble = str(error)
        if trouble is not None:
            complain(trouble)
        time.sleep(60 * again)
    if (trouble := asyncio.run(_watched(settings, model, minutes))) is not None:
        fail(f"rolled back: {trouble}")


async def _watched(settings: Settings, model: str, minutes: float) -> str | None:
    """Why the champion was rolled back; None where it was not, or there is none."""
    async with promoting_opened(settings) as promoting:
        champion = await promoting.promoter.restore(model)
        newest = await _newest(promoting, model)
        if champion is None or newest is None or newest.action == "rolled_back":
            note(f"No version of {model} is to be watched.")
            return None
        note(f"Watching {model} {champion} for {minutes:g} minutes")
        trouble = await promoting.watcher.watch(newest, for_s=60 * minutes)
        if trouble is None:
            gone = await promoting.promoter.retire(model)
            note(f"{model} {champion} did well" + (f"; unloaded {', '.join(gone)}" if gone else ""))
        return trouble


def rows_of(model: str, loaded: Sequence[Served], known: Sequence[Release], stack: Sequence[str]) -> list[Row]:
    """The versions of a model, loaded or known; the one that should serve first."""
    champion = stack[-1] if stack else (loaded[0].version if loaded else "")
    before = stack[-2] if len(stack) > 1 else ""
    roles = {champion: "champion", before: "previous"}
    by_version = {each.version: each for each in loaded}
    archives = {each.version: each.archive_sha256 for each in known}
    found = []
    for version in sorted({*by_version, *archives}, key=lambda each: (each != champion, each != before, each)):
        there = by_version.get(version)
        workers, waiting = (None, 0) if there is None else (there.ready, there.waiting)
        role = roles.get(version, "other")
        if there is not None and there.serves and version != champion:
            role += ", serves"
        found.append(Row(model, version, role, workers, waiting, archives.get(version)))
    return found


async def _agreement(settings: Settings) -> list[Agreement]:
    async with opened_database(settings) as database:
        return await Shadows(database).agreement()


def _show_agreement(found: Sequence[Agreement], as_json: bool) -> None:
    if as_json:
        write_lines(asdict(each) for each in found)
        return
    columns = ("challenger", "champion", "uploads", "same decision", "manipulated", "mean IoU", "score", "seconds")
    write_table(columns, ([
        each.challenger, each.champion, str(each.uploads), f"{each.same_decision:.1%}",
        f"{each.champion_manipulated:.1%} -> {each.manipulated:.1%}", f"{each.iou:.2f}",
        f"{each.score_difference:+.3f}", f"{each.seconds:.2f}",
    ] for each in found))  # fmt: skip


async def _rows(settings: Settings) -> list[Row]:
    rows: list[Row] = []
    async with promoting_opened(settings, tell=False) as promoting:
        for model in MODELS:
            try:
                loaded = await promoting.serving.served(model)
            except Unavailable as error:
                note(str(error))
                loaded = []
            known = await promoting.releases.find(model)
            stack = served(await promoting.promotions.history(model))
            rows += rows_of(model, loaded, known, stack)
    return rows


@asynccontextmanager
async def promoting_opened(settings: Settings, *, tell: bool = True) -> AsyncIterator[Promoting]:
    """What promotes, with the golden pictures. Kafka may be away: then events are sent another time."""
    from model_archive.check import GOLDEN

    pair = Pair((GOLDEN / "upload.jpg").read_bytes(), (GOLDEN / "original.jpg").read_bytes())
    async with AsyncExitStack() as stack:
        stack.enter_context(_logs_to_stderr())
        database = await stack.enter_async_context(opened_database(settings))
        sender = None
        if tell:
            try:
                sender = await stack.enter_async_context(opened_sender(settings))
            except Unavailable as error:
                note(f"{error}; the event is recorded and sent another time")
        yield await stack.enter_async_context(opened(settings, database, pair, sender))


@contextmanager
def _logs_to_stderr() -> Iterator[None]:
    """Results alone go to stdout."""
    before = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        yield
    finally:
        structlog.configure(**before)


def _archive(model: str, path: Path) -> tuple[str, bytes] | None:
    """Version and bytes of an archive; None where there is no such file, so that a version is meant."""
    from services.local.torchserve import archive_identity

    if not path.is_file():
        return None
    name, version = archive_identity(path)
    if name != model:
        raise wrong_use(f"{path} is an archive of {name}, not of {model}")
    return version, path.read_bytes()


def _registered(model: str, what: str, registry: str) -> tuple[str, bytes]:
    """Version and bytes of an archive in the registry."""
    from trainer.registry import Registry

    found = Registry(registry)
    entry = found.get(model, what)
    with TemporaryDirectory() as folder:
        return entry.version, found.archive(entry, Path(folder)).read_bytes()


def _name_champion(model: str, version: str, registry: str) -> None:
    from trainer.registry import Registry

    Registry(registry).name(model, "champion", version)


async def _newest(promoting: Promoting, model: str) -> Promotion | None:
    """The newest promotion or rollback that was done."""
    history = await promoting.promotions.history(model)
    return next((each for each in reversed(history) if each.state == "done"), None)


def _known(model: str) -> None:
    if model not in MODELS:
        raise wrong_use(f"there is no model {model}; there are {' and '.join(MODELS)}")


def _say(done: Promotion | None, model: str, as_json: bool) -> None:
    if done is None:
        note(f"Nothing to do: {model} serves as it should.")
    elif as_json:
        write_lines([done.event().model_dump(mode="json")])
    else:
        before = done.previous_version if done.action == "promoted" else done.version
        note(f"{model}: {done.serves} serves instead of {before}.")


def _cells(row: Row) -> tuple[str, ...]:
    workers = "not loaded" if row.workers is None else str(row.workers)
    return (row.model, row.version, row.role, workers, str(row.waiting), (row.archive or "")[:12])
