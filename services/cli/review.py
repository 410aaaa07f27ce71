"""`pentimento review`: the queue of cases, figures about reviews, and cases whose answer is known.

In: a tenant, a span of days, settled uploads. Out: tables or JSON lines. Whoever has the database may see and add
everything: the command line is for operators and leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    duration,
    fail,
    note,
    policy_in,
    settings_of,
    write_lines,
    write_table,
)
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.review_claims import LockRules
from services.clients.review_honeypots import Honeypot, ReviewHoneypots
from services.clients.review_queue import CaseFilter, Place, ReviewQueue
from services.clients.review_rows import Case, Refusal
from services.clients.review_stats import ReviewStats, Twice, Waiting, Work
from services.core.access import LOCAL
from services.core.policy import Policy
from services.core.review.cases import priority
from services.core.review.honeypots import Unusable, honeypot_of
from services.core.review.quality import Agreement, agreement, by_pair
from services.settings import Settings

QUEUE = ("case", "tenant", "kind", "priority", "uploads", "waits", "escalated", "with", "file")
WORK = ("moderator", "decided", "undone", "skipped", "escalated", "minutes", "median s", "honeypots right")
AGREEMENT = ("first", "second", "cases", "agree", "kappa")
HONEYPOTS = ("honeypot", "tenant", "answer", "shown", "right", "by", "since", "upload")
PAGE = 200

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]


class KnownAnswer(StrEnum):
    """What a honeypot's answer can be."""

    MANIPULATED = "manipulated"
    NO_EVIDENCE = "no_evidence"


review = typer.Typer(help="Cases for people: queue, figures, honeypots.", no_args_is_help=True)
honeypots = typer.Typer(help="Cases whose answer is known: list, add, retire.", no_args_is_help=True)
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


@honeypots.command("list")
def list_honeypots(tenant: OfTenant = None, as_json: JsonOption = False, data: DataOption = None) -> None:
    """List cases whose answer is known, the latest first.

    Example: pentimento review honeypots list --json
    """
    found = asyncio.run(_listed(settings_of(data), tenant))
    if as_json:
        write_lines(_honeypot_json(each) for each in found)
    else:
        write_table(HONEYPOTS, (_honeypot_cells(each) for each in found))


@honeypots.command()
def add(
    upload_id: Annotated[str, typer.Argument(metavar="UPLOAD", help="An upload that a moderator has decided.")],
    answer: Annotated[KnownAnswer, typer.Option("--answer", help="What is right.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose upload it is.")] = "default",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let an upload be shown to moderators as if nobody had decided it, to see whether they find the answer.

    Example: pentimento review honeypots add photo-17 --answer manipulated
    """
    settings = settings_of(data)
    added = asyncio.run(_added(settings, policy_in(settings), tenant, upload_id, answer))
    if as_json:
        write_lines([_honeypot_json(added)])
    else:
        note(f"honeypot {added.id}: each moderator is shown {upload_id} once")


@honeypots.command()
def retire(
    honeypot_id: Annotated[str, typer.Argument(metavar="HONEYPOT", help="A number, as `honeypots list` shows it.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show a case with a known answer to nobody any more.

    Example: pentimento review honeypots retire 5f0c1f3e-5f0a-4c55-9d37-0c5f3c1d2e4b
    """
    if not asyncio.run(_retired(settings_of(data), honeypot_id)):
        fail(f"there is no honeypot {honeypot_id}: see `pentimento review honeypots list`")
    if as_json:
        write_lines([{"honeypot": honeypot_id, "retired": True}])
    else:
        note(f"honeypot {honeypot_id} is shown to nobody any more")


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


async def _figures(settings: Settings, tenant: str | None, since: datetime) -> Figures:
    async with opened_database(settings) as database:
        of = ReviewStats(database)
        waiting, work = await of.waiting(LOCAL, tenant), await of.work(LOCAL, tenant, since=since)
        return Figures(waiting, work, await of.decided_twice(LOCAL, tenant, since=since))


@asynccontextmanager
async def _honeypots(settings: Settings) -> AsyncIterator[tuple[Database, ReviewHoneypots]]:
    rules = LockRules(timedelta(seconds=settings.review.lock_s), timedelta(seconds=settings.review.skip_s))
    async with opened_database(settings) as database:
        yield database, ReviewHoneypots(database, rules)


async def _listed(settings: Settings, tenant: str | None) -> list[Honeypot]:
    async with _honeypots(settings) as (_, of):
        return await of.list(LOCAL, tenant)


async def _added(settings: Settings, policy: Policy, tenant: str, upload_id: str, answer: KnownAnswer) -> Honeypot:
    async with _honeypots(settings) as (database, of):
        revisions = await Verdicts(database).get(tenant, upload_id)
        if not revisions:
            fail(f"tenant {tenant} has no verdict for upload {upload_id}")
        usable = honeypot_of(revisions, policy)
        if isinstance(usable, Unusable):
            fail(usable.text)
        added = await of.add(LOCAL, usable.verdict, usable.kind, answer.value, now=datetime.now(UTC))
    if isinstance(added, Refusal):
        fail(added.text)
    return added


async def _retired(settings: Settings, honeypot_id: str) -> bool:
    async with _honeypots(settings) as (_, of):
        return await of.retire(LOCAL, honeypot_id, now=datetime.now(UTC))


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


def _honeypot_cells(honeypot: Honeypot) -> tuple[str, ...]:
    since = "retired" if honeypot.retired_at else f"{honeypot.added_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    counts = (str(honeypot.shown), str(honeypot.right))
    return (honeypot.id, honeypot.tenant, honeypot.answer, *counts, honeypot.added_by, since, honeypot.upload_id)


def _honeypot_json(honeypot: Honeypot) -> dict[str, Any]:
    plain = ("id", "tenant", "upload_id", "revision", "answer", "added_by", "shown", "right")
    return {name: getattr(honeypot, name) for name in plain} | {
        "added_at": honeypot.added_at.astimezone(UTC).isoformat(),
        "retired": honeypot.retired_at is not None,
    }
