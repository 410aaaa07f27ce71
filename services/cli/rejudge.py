"""`pentimento rejudge`: earlier verdicts that the models which serve now reach again.

In: which verdicts. Out: a run in the queue, whose id the report takes; the workers do the rest, behind everything else.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    note,
    policy_in,
    progress,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.rejudge_report import report
from services.clients.models import Watch
from services.clients.rejudge import Choice, ChosenCount, Place, RejudgeRuns
from services.core.events import Decision, ModelVersion, Path
from services.core.judge.again import names
from services.opening import open_models
from services.settings import Settings

PAGE = 1000  # verdicts that are queued in one statement
COLUMNS = ("tenant", "path", "decision", "uploads")
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

rejudge = typer.Typer(invoke_without_command=True)
rejudge.command()(report)


@rejudge.callback()
def queue(  # noqa: PLR0913, PLR0917 - each is an option
    context: typer.Context,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            formats=TIMES,
            metavar="DATE",
            help="Judged from then on, UTC; as 2026-11-01T08:30, or without time.",
        ),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=TIMES, metavar="DATE", help="Judged before that, UTC.")
    ] = None,
    decision: Annotated[
        list[Decision] | None,
        typer.Option("--decision", help="Only these; repeatable. Without it: whatever the policy finds doubtful."),
    ] = None,
    path: Annotated[list[Path] | None, typer.Option("--path", help="Only these; repeatable.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many at most, the newest.")] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.001, max=1000, help="Uploads a second. Without it: what the settings say."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also verdicts of the models that serve now, after a change of the policy.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be queued.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Have doubtful verdicts judged again by the models that serve now, behind all that is new.

    Doubtful: inconclusive, or with a score between the policy's thresholds. Only where other models judged, and never
    what a moderator decided. Asked twice, or stopped and asked again, nothing is judged twice by the same models.

    Example: pentimento rejudge --since 2026-11-01 --path unconstrained --dry-run
    """
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(data)
    models = asyncio.run(_serving(settings))
    choice = Choice(
        models=models,
        policy=policy_in(settings),
        tenant=tenant,
        since=_utc(since),
        until=_utc(until),
        decisions=tuple(decision) if decision else None,
        paths=tuple(path) if path else None,
        force=force,
    )
    by = ", ".join(names(models))
    counts = asyncio.run(_counts(settings, choice))
    uploads = sum(each.uploads for each in counts)
    if dry_run:
        _show(counts, as_json)
        note(f"{uploads} verdicts would be judged again by {by}" + (f", {limit} at most" if limit else ""))
        return
    if not uploads:
        note(f"there is nothing to judge again: no such verdict is left that {by} did not reach or was not asked for")
        return
    run, queued = asyncio.run(_queued(settings, choice, rate, min(uploads, limit or uploads), hidden=as_json))
    if as_json:
        write_lines([{"run": run, "queued": queued, "models": names(models)}])
    note(f"run {run}: {queued} verdicts wait to be judged again by {by}: `pentimento rejudge report --run {run}`")


async def _serving(settings: Settings) -> tuple[ModelVersion, ...]:
    models = open_models(settings.models, Watch())
    try:
        return await models.versions()
    finally:
        await models.close()


async def _counts(settings: Settings, choice: Choice) -> list[ChosenCount]:
    async with opened_database(settings) as database:
        return await RejudgeRuns(database).count(choice)


async def _queued(
    settings: Settings, choice: Choice, rate: float | None, at_most: int, *, hidden: bool
) -> tuple[int, int]:
    """A new run with its uploads, queued page by page; its id, and how many they are."""
    async with opened_database(settings) as database:
        runs = RejudgeRuns(database)
        run, queued = await runs.begin(choice, rate), 0
        place: Place | None = None
        with progress(hidden=hidden) as bar:
            task = bar.add_task(f"queueing run {run}", total=at_most)
            while queued < at_most:
                page, place = await runs.queue(run, choice, after=place, limit=min(PAGE, at_most - queued))
                if place is None:
                    break
                queued += page
                bar.update(task, completed=queued)
    return run, queued


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _show(counts: list[ChosenCount], as_json: bool) -> None:
    if as_json:
        write_lines(
            {"tenant": each.tenant, "path": each.path, "decision": each.decision, "uploads": each.uploads}
            for each in counts
        )
    else:
        write_table(COLUMNS, ((each.tenant, each.path, each.decision, str(each.uploads)) for each in counts))
