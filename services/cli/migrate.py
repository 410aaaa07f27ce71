"""`pentimento migrate`: the database's tables brought to this release, or what would be done, or whether it is.

In: settings. Out: the revisions of `services/clients/migrations/versions` that were applied. `pentimento prepare` does
the same and makes Kafka's topics, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, complain, fail, note, settings_of, write_lines, wrong_use
from services.clients import migrating
from services.core.errors import Unavailable
from services.settings import Settings

PAUSE_S = 2.0
T = TypeVar("T")

WaitOption = Annotated[float, typer.Option("--wait", metavar="S", min=0, help="Try again for so long.")]


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if anything is pending.")
    ] = False,
    as_sql: Annotated[bool, typer.Option("--sql", help="Change nothing; write the SQL that would be run.")] = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Bring the database's tables to this release; safe to repeat, for several at once, and while an old release runs.

    The database and pgvector are made where they are missing and that is allowed. Tables only grow: the release before
    this one goes on working, and a database that a newer release has changed is left as it is.

    Examples: `pentimento migrate --wait 300`, `pentimento migrate --check --json`, `pentimento migrate --sql`
    """
    if check and as_sql:
        raise wrong_use("--check or --sql, one at a time")
    settings = settings_of(data)
    if as_sql:
        typer.echo(migrating.script(patiently(lambda: revision(settings), wait)), nl=False)
        return
    applied = () if check else patiently(lambda: apply(settings), wait)
    found = patiently(lambda: checked(settings) if wait else revision(settings), wait)
    todo = migrating.pending(found)
    if as_json:
        write_lines([{"revision": found, "applied": list(applied), "pending": list(todo), "newer": newer(found)}])
    if todo:
        fail(f"the tables are at {found or 'none'}; pending: {', '.join(todo)}: run `pentimento migrate`")
    if not as_json:
        done = f"applied: {', '.join(applied)}" if applied else "nothing to do"
        note(f"Tables are at {found}: {'a newer release went first, ' if newer(found) else ''}{done}.")


def newer(found: str | None) -> bool:
    """Whether a newer release has changed the tables."""
    return found is not None and found not in migrating.REVISIONS


def apply(settings: Settings) -> tuple[str, ...]:
    """The revisions that were pending, applied now. Raises Unavailable or Broken."""

    async def work() -> tuple[str, ...]:
        async with opened_database(settings) as database:
            return await database.migrate()

    return asyncio.run(work())


def revision(settings: Settings) -> str | None:
    """The revision that the tables are at. Raises Unavailable."""

    async def work() -> str | None:
        async with opened_database(settings) as database:
            return await database.revision()

    return asyncio.run(work())


def checked(settings: Settings) -> str | None:
    """The same, and Unavailable while anything is pending, so that somebody can wait for it."""
    found = revision(settings)
    if todo := migrating.pending(found):
        text = f"the tables are at {found or 'none'}, this program needs {todo[-1]}: run `pentimento migrate`"
        raise Unavailable("postgres", text)
    return found


def patiently(work: Callable[[], T], wait_s: float) -> T:
    """What `work` returns, tried again while a part is away, for so long."""
    end = time.monotonic() + wait_s
    while True:
        try:
            return work()
        except Unavailable as error:
            if time.monotonic() >= end:
                raise
            complain(f"{error}; trying again")
            time.sleep(PAUSE_S)
