"""`pentimento review`: the queue of cases and figures about reviews.

In: a tenant, a span of days. Out: tables or JSON lines. Whoever has the database may see everything: the command line
is for operators and leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    duration,
    note,
    policy_in,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.review_honeypots import honeypots
from services.clients.cases import Cursor, VerdictFilter, Verdicts
from services.clients.review_cases import ReviewCases
from services.clients.review_queue import CaseFilter, Place, ReviewQueue
from services.clients.review_rows import Case
from services.clients.review_stats import ReviewStats, Twice, Waiting, Work
from services.core.access import LOCAL
from services.core.policy import Policy
from services.core.review.cases import need, priority
from services.core.review.quality import Agreement, agreement, by_pair
from services.settings import Settings

QUEUE = ("case", "tenant", "kind", "priority", "uploads", "waits", "escalated", "with", "file")
WORK = ("moderator", "decided", "undone", "skipped", "escalated", "minutes", "median s", "honeypots right")
AGREEMENT = ("first", "second", "cases", "agree", "kappa")
PAGE = 200

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]


review = typer.Typer(help="Cases for people: queue, figures, honeypots.", no_args_is_help=True)
review.add_typer(honeypots, name="honeypots")


@review.command()
def queue(
    tenant: OfTenant = None,
    escalated: Annotated[bool, typer.Option("--escalated", help="Only cases that were escalated.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List open cases, the most urgent first.

    Example: pentimento review queue --tenant acme --limit 20
    """
    chosen = CaseFilter(tenant=tenant, escalated=True if escalated else None)
    cases = asyncio.run(_cases(settings_of(data), chosen, limit))
    now = datetime.now(UTC)
    if as_json:
        write_lines(_case_json(each, now) for each in cases)
    else:
        write_table(QUEUE, (_case_cells(each, now) for each in cases))


@review.command()
def stats(
    days: Annotated[int, typer.Option("--days", min=1, help="What was done in so many days.")] = 30,
    tenant: OfTenant = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show what waits, what each moderator did, and how often two agree who did not see each other.

    Example: pentimento review stats --days 7 --json
    """
    found = asyncio.run(_figures(settings_of(data), tenant, datetime.now(UTC) - timedelta(days=days)))
    if as_json:
        write_lines([found.as_json()])
        return
    for each in found.waiting:
        waits = duration((datetime.now(UTC) - each.oldest_at).total_seconds())
        note(f"{each.tenant}: {each.open} open ({each.kind}), {each.escalated} escalated, the oldest waits {waits}")
    write_table(WORK, (_work_cells(each) for each in found.work))
    write_table(AGREEMENT, (_pair_cells(*each) for each in found.pairs()))


@review.command("open")
def open_cases(
    since: Annotated[datetime, typer.Option("--since", help="Verdicts from then on, UTC.")],
    tenant: OfTenant = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Open cases for verdicts that were reached before there were any, or under a policy that asked for fewer.

    Verdicts that have been in a case stay as they are. Safe to repeat, and to stop.

    Example: pentimento review open --since 2026-11-01
    """
    settings = settings_of(data)
    chosen = VerdictFilter(tenant=tenant, since=since.replace(tzinfo=UTC))
    looked_at = asyncio.run(_opened(settings, policy_in(settings), chosen))
    if as_json:
        write_lines([{"verdicts": looked_at}])
    else:
        note(f"{looked_at} verdicts need a person: see `pentimento review queue`")


@dataclass(frozen=True, slots=True)
class Figures:
    """What `stats` shows."""

    waiting: list[Waiting]
    work: list[Work]
    twice: list[Twice]

    def pairs(self) -> Iterator[tuple[str, str, Agreement]]:
        """How often two people agree."""
        for (first, second), answers in sorted(by_pair((each.first, each.second) for each in self.twice).items()):
            yield first, second, agreement(answers)

    def as_json(self) -> dict[str, Any]:
        """All of it in one object."""
        return {
            "waiting": [
                {name: getattr(each, name) for name in Waiting.__slots__ if name != "oldest_at"}
                | {"oldest_at": each.oldest_at.astimezone(UTC).isoformat()}
                for each in self.waiting
            ],
            "moderators": [{name: getattr(each, name) for name in Work.__slots__} for each in self.work],
            "agreement": [
                {"first": first, "second": second, "cases": how.cases, "percent": how.percent, "kappa": how.kappa}
                for first, second, how in self.pairs()
            ],
        }


async def _cases(settings: Settings, chosen: CaseFilter, limit: int) -> list[Case]:
    found: list[Case] = []
    async with opened_database(settings) as database:
        while len(found) < limit:
            after = Place(found[-1].rank, found[-1].id) if found else None
            size = min(PAGE, limit - len(found))
            page = await ReviewQueue(database).page(LOCAL, chosen, limit=size, after=after, now=datetime.now(UTC))
            found += page
            if len(page) < size:
                break
    return found


async def _opened(settings: Settings, policy: Policy, chosen: VerdictFilter) -> int:
    """How many verdicts need a person, newest revisions alone."""
    found, last = 0, None
    async with opened_database(settings) as database:
        while page := await Verdicts(database).find(chosen, limit=PAGE, before=last):
            for verdict in page:
                if (asked := need(verdict, policy)) is not None:
                    await ReviewCases(database).follow(verdict, asked, now=datetime.now(UTC))
                    found += 1
            last = Cursor.after(page[-1])
    return found


async def _figures(settings: Settings, tenant: str | None, since: datetime) -> Figures:
    async with opened_database(settings) as database:
        of = ReviewStats(database)
        waiting, work = await of.waiting(LOCAL, tenant), await of.work(LOCAL, tenant, since=since)
        return Figures(waiting, work, await of.decided_twice(LOCAL, tenant, since=since))


def _case_cells(case: Case, now: datetime) -> tuple[str, ...]:
    return (
        case.id,
        case.tenant,
        case.kind,
        f"{priority(case.rank, now):.2f}",
        str(case.members),
        duration((now - case.opened_at).total_seconds()),
        "yes" if case.escalated else "",
        "" if case.lock is None or case.lock.expired else case.lock.by,
        case.filename or case.upload_id,
    )


def _case_json(case: Case, now: datetime) -> dict[str, Any]:
    plain = ("id", "tenant", "kind", "escalated", "members", "upload_id", "revision", "filename", "score", "decision")
    return {name: getattr(case, name) for name in plain} | {
        "priority": round(priority(case.rank, now), 4),
        "opened_at": case.opened_at.astimezone(UTC).isoformat(),
        "locked_by": None if case.lock is None or case.lock.expired else case.lock.by,
    }


def _work_cells(work: Work) -> tuple[str, ...]:
    counts = (work.decided, work.undone, work.skipped, work.escalated)
    median = "" if work.median_s is None else f"{work.median_s:.0f}"
    right = f"{work.honeypots_right} of {work.honeypots}" if work.honeypots else ""
    return (work.name, *(str(count) for count in counts), f"{work.minutes:.0f}", median, right)


def _pair_cells(first: str, second: str, how: Agreement) -> tuple[str, ...]:
    return (first, second, str(how.cases), f"{how.percent:.0%}", "" if how.kappa is None else f"{how.kappa:.2f}")
