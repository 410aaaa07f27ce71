"""`pentimento learn loop` and `learn rounds`: hard cases to a better model, by itself, as a cron job has it.

In: options and settings. Out: a round, decided, with a row that says why. The order of steps is `trainer.loop`'s, the
steps are `learn_steps`'.
"""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    complain,
    fail,
    faults,
    note,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.cli.learn_steps import Steps
from services.clients.rounds import Rounds
from services.core.errors import Broken, Unavailable
from services.core.learn.rounds import Done, Options, Round
from services.opening import open_objects
from services.settings import Settings, data_dir

if TYPE_CHECKING:
    from trainer.loop.machine import Moment, Tell

SHOWN = 20
PATHS = {"photos", "sets", "champion", "work"}
"""Options that name files or folders."""

BUSY = "another loop is at work"
COLUMNS = ("round", "begun", "step", "new", "dataset", "challenger", "decision", "reason")


def loop(  # noqa: PLR0913, PLR0917 - what a cron job decides; the rest is the plan's
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN.toml", help="Options of a round, see the docs.")] = None,
    photos: Annotated[
        list[Path] | None, typer.Option("--photos", help="Photographs to make forgeries from; repeatable.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", help="Whose cases; repeatable. Without it: those of `default`.")
    ] = None,
    least_new: Annotated[
        int | None, typer.Option("--least-new", min=1, help="New training samples that are enough (200).")
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Let a challenger serve that passed the gate.")] = False,
    once: Annotated[bool, typer.Option("--once", help="One round, then end; for cron.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="MIN", min=0, help="Pause between rounds.")] = 60.0,
    status: Annotated[bool, typer.Option("--status", help="Only show where the newest round stands.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Turn hard cases into a better model, round after round: annotate, add samples, and where enough are new freeze,
    fit, gate, register; with --promote let it serve, and watch it.

    Killed at any moment, the next run goes on with that round, by the options that it began with. One loop works at a
    time; another one says so and ends with status 0.

    Example: pentimento learn loop --once --photos photos/ --tenant acme --promote
    """
    settings = settings_of(data)
    if status:
        _show(asyncio.run(_newest(settings, 1)), as_json)
        return
    given = {"photos": _absolute(photos), "tenants": tenant or None, "least_new": least_new, "promote": promote or None}
    options = options_of(plan, given, data_dir(data))
    while True:
        try:
            _tell_end(asyncio.run(one_round(settings, options)), as_json)
        except Unavailable as error:
            if once:
                raise
            complain(f"{error}; trying again in {every:g} minutes")
        if once:
            return
        time.sleep(60 * every)


def rounds(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = SHOWN,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List rounds of the learning loop, the newest first: what each was fitted on, what was decided, and why.

    Example: pentimento learn rounds --json
    """
    _show(asyncio.run(_newest(settings_of(data), limit)), as_json)


def abandon(
    why: Annotated[str, typer.Argument(metavar="WHY", help="The reason, for the record.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """End the round in work undecided, where it cannot go on; its samples count as new again.

    Example: pentimento learn abandon "the photographs are gone"
    """
    _show([asyncio.run(_abandoned(settings_of(data), why))], as_json)


def options_of(plan: Path | None, given: Mapping[str, Any], home: Path) -> Options:
    """The options of a round: what is given, before the plan's, before the defaults. Paths in a plan are relative to
    it."""
    values: dict[str, Any] = {"registry": str(home / "registry"), "work": str(home / "rounds")}
    try:
        if plan is not None:
            values |= tomllib.loads(plan.read_text(encoding="utf-8"))
            for name in PATHS & values.keys():
                values[name] = _below(plan.parent, values[name])
        return Options.model_validate(values | {name: value for name, value in given.items() if value is not None})
    except OSError as error:
        raise wrong_use(f"{plan} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise wrong_use(f"{plan} is not TOML: {error}") from error
    except ValidationError as error:
        raise wrong_use(f"the round does not fit: {faults(error)}") from error


async def one_round(
    settings: Settings, options: Options, tell: Tell | None = None, *, steps: type[Steps] = Steps
) -> Round | None:
    """The round in work, or a new one, carried on to its end; None where another loop is at work."""
    from trainer.loop.machine import carried_on

    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            known = Rounds(database)
            async with known.alone() as still:
                if still is None:
                    return None
                at = await known.begin(options)
                works = steps(settings, database, objects).works()
                return await carried_on(known, at, works, still=still, tell=tell or _say)
    finally:
        objects.close()


def _say(at: Round, moment: Moment) -> None:
    if moment == "begins":
        note(f"round {at.id}: {at.step}")


async def _newest(settings: Settings, limit: int) -> list[Round]:
    async with opened_database(settings) as database:
        return await Rounds(database).newest(limit)


async def _abandoned(settings: Settings, why: str) -> Round:
    async with opened_database(settings) as database:
        known = Rounds(database)
        async with known.alone() as still:
            if still is None:
                raise Broken(f"{BUSY}: end it first")
            newest = await known.newest(1)
            if not newest or newest[0].finished_at is not None:
                fail("no round is in work")
            return await known.record(newest[0], Done(decision="abandoned", reason=why))


def _tell_end(found: Round | None, as_json: bool) -> None:
    if found is None:
        note(f"{BUSY}; `--status` shows where")
    elif as_json:
        write_lines([found.as_json()])
    else:
        note(f"round {found.id}: {found.decision}. {found.reason}")


def _show(found: Iterable[Round], as_json: bool) -> None:
    if as_json:
        write_lines(each.as_json() for each in found)
    else:
        write_table(COLUMNS, (_cells(each) for each in found))


def _cells(at: Round) -> tuple[str, ...]:
    new = "" if at.new_samples is None else str(at.new_samples)
    begun = f"{at.started_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    facts = (at.dataset or "", at.challenger or "", at.decision or "in work", at.reason or "")
    return (str(at.id), begun, at.step, new, *facts)


def _absolute(folders: Iterable[Path] | None) -> tuple[str, ...] | None:
    return tuple(str(folder.absolute()) for folder in folders) if folders else None


def _below(folder: Path, named: Any) -> Any:
    """A path, or paths, as seen from a folder; whatever else was written is left for the validation to complain of."""
    if isinstance(named, str) and named:
        return str((folder / named).absolute())
    return [_below(folder, each) for each in named] if isinstance(named, list) else named
