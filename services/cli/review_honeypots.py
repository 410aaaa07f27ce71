"""`pentimento review honeypots`: cases whose answer is known.

In: uploads that a moderator has decided, and what is right. Out: a table or JSON lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, fail, note, policy_in, settings_of, write_lines, write_table
from services.cli.people import operator
from services.clients.audit import Audit
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.review_claims import LockRules
from services.clients.review_honeypots import Honeypot, ReviewHoneypots
from services.clients.review_rows import Refusal
from services.core.access import LOCAL
from services.core.policy import Policy
from services.core.review.honeypots import Unusable, honeypot_of
from services.settings import Settings

HONEYPOTS = ("honeypot", "tenant", "answer", "shown", "right", "by", "since", "upload")

OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]

honeypots = typer.Typer(help="Cases whose answer is known: list, add, retire.", no_args_is_help=True)


class KnownAnswer(StrEnum):
    """What a honeypot's answer can be."""

    MANIPULATED = "manipulated"
    NO_EVIDENCE = "no_evidence"


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
        said = {"honeypot": added.id}
        await Audit(database).record(operator(), "honeypot_added", tenant=tenant, upload_id=upload_id, details=said)
    return added


async def _retired(settings: Settings, honeypot_id: str) -> bool:
    async with _honeypots(settings) as (database, of):
        retired = await of.retire(LOCAL, honeypot_id, now=datetime.now(UTC))
        if retired:
            await Audit(database).record(operator(), "honeypot_retired", details={"honeypot": honeypot_id})
    return retired


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
