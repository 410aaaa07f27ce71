"""`pentimento webhooks`: who is told of verdicts, and what became of what they were sent.

In: a tenant, a URL, a webhook's id. Out: the webhooks as a table or JSON lines; a secret, once; a test's answer.
"""

from __future__ import annotations

import asyncio
import getpass
from datetime import UTC
from time import monotonic
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, TenantOption, fail, note, settings_of, write_lines, write_table
from services.cli.people import operator
from services.clients.audit import Audit
from services.clients.database import Database
from services.clients.delivery_log import DeliveryLog, SeenDelivery
from services.clients.webhooks import NewWebhook, Webhook, Webhooks
from services.core.events import Decision
from services.core.webhooks import EventKind
from services.opening import open_vault, open_webhook_fetcher
from services.settings import Settings
from services.webhooks.desk import Desk

COLUMNS = ("webhook", "tenant", "told of", "state", "waiting", "dead", "url")
TOLD = (EventKind.VERDICT, EventKind.REVIEW)
LOOK_S = 0.2
PAGE = 200

webhooks = typer.Typer(help="Endpoints that are told of verdicts and decisions.", no_args_is_help=True)
WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="An id, as `webhooks list` shows it.")]


@webhooks.command("list")
def list_webhooks(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the registered webhooks, the oldest first, with the deliveries that wait and those that were given up.

    Example: pentimento webhooks list --json
    """
    found = asyncio.run(_found(settings_of(data), tenant))
    if as_json:
        write_lines(_as_json(each) for each in found)
        return
    write_table(COLUMNS, (_cells(each) for each in found))
    note(f"{len(found)} webhooks")


@webhooks.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are posted to; its host must be allowed.")],
    tenant: TenantOption = "default",
    events: Annotated[
        list[str] | None, typer.Option("--event", help="verdict or review; verdict unless given.")
    ] = None,
    decisions: Annotated[
        list[Decision] | None, typer.Option("--decision", help="Only these decisions; all unless given.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Register a webhook. Its secret is written to stdout, this once.

    Example: pentimento webhooks add https://hooks.example.com/pentimento --decision manipulated
    """
    chosen = tuple(dict.fromkeys(events or [EventKind.VERDICT.value]))
    if unknown := [each for each in chosen if each not in TOLD]:
        raise typer.BadParameter(f"{unknown[0]} is no event: verdict or review", param_hint="--event")
    only = tuple(dict.fromkeys(decisions)) if decisions else None
    new = NewWebhook(tenant, url, tuple(EventKind(each) for each in chosen), only, f"{getpass.getuser()} (cli)")
    made, secret = asyncio.run(_added(settings_of(data), new))
    if as_json:
        write_lines([{**_as_json(made), "secret": secret}])
        return
    note(
        f"webhook {made.id} is told of the {', '.join(chosen)} events of tenant {tenant}; its secret, shown this once:"
    )
    typer.echo(secret)


@webhooks.command()
def remove(webhook: WebhookArgument, data: DataOption = None) -> None:
    """Remove a webhook, what waits for it, and its log.

    Example: pentimento webhooks remove 5c1f0a
    """
    if not asyncio.run(_removed(settings_of(data), webhook)):
        fail(f"there is no webhook {webhook}: see `pentimento webhooks list`")
    note(f"webhook {webhook} was removed")


@webhooks.command()
def test(
    webhook: WebhookArgument,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for an answer.")] = 15.0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Send a test event the way of every event, and show what was answered.

    Example: pentimento webhooks test 5c1f0a
    """
    delivery = asyncio.run(_tested(settings_of(data), webhook, wait_s))
    if as_json:
        write_lines([{"delivery": delivery.id, "status": delivery.status, "error": delivery.error}])
    if delivery.state != "delivered":
        said = delivery.error or (f"status {delivery.status}" if delivery.status else "nobody sent it yet")
        fail(f"not delivered: {said}")
    note(f"delivered: status {delivery.status}")


@webhooks.command()
def redrive(
    webhook: WebhookArgument,
    deliveries: Annotated[list[int] | None, typer.Option("--delivery", help="Only these; all unless given.")] = None,
    data: DataOption = None,
) -> None:
    """Send a webhook's dead letters once more.

    Example: pentimento webhooks redrive 5c1f0a
    """
    count = asyncio.run(_redriven(settings_of(data), webhook, deliveries))
    if count is None:
        fail(f"there is no webhook {webhook}: see `pentimento webhooks list`")
    note(f"{count} dead letters are sent once more")


async def _found(settings: Settings, tenant: str | None) -> list[Webhook]:
    found: list[Webhook] = []
    async with opened_database(settings) as database:
        while True:
            after = (found[-1].created_at, found[-1].id) if found else None
            tenants = None if tenant is None else [tenant]
            page = await Webhooks(database).find(tenants=tenants, limit=PAGE, after=after)
            found += page
            if len(page) < PAGE:
                return found


async def _added(settings: Settings, new: NewWebhook) -> tuple[Webhook, str]:
    if not settings.webhooks.keys:
        fail("PENTIMENTO_WEBHOOKS__KEYS is empty: a secret could not be kept")
    async with opened_database(settings) as database:
        return await _desk(settings, database).add(operator(), new)


async def _removed(settings: Settings, webhook: str) -> bool:
    async with opened_database(settings) as database:
        found = await Webhooks(database).find(webhook_id=webhook)
        for each in found:
            await _desk(settings, database).remove(operator(), each)
        return bool(found)


async def _tested(settings: Settings, webhook: str, wait_s: float) -> SeenDelivery:
    async with opened_database(settings) as database:
        number = await _desk(settings, database).ping(webhook)
        if number is None:
            fail(f"there is no webhook {webhook} that is active: see `pentimento webhooks list`")
        until = monotonic() + wait_s
        while True:
            (seen,) = await DeliveryLog(database).deliveries(webhook, before=number + 1, limit=1)
            if seen.status is not None or seen.error is not None or monotonic() >= until:
                return seen
            await asyncio.sleep(LOOK_S)


async def _redriven(settings: Settings, webhook: str, deliveries: list[int] | None) -> int | None:
    async with opened_database(settings) as database:
        found = await Webhooks(database).find(webhook_id=webhook)
        if not found:
            return None
        return await _desk(settings, database).redrive(operator(), found[0], deliveries)


def _desk(settings: Settings, database: Database) -> Desk:
    return Desk(
        database,
        audit=Audit(database),
        vault=open_vault(settings.webhooks),
        fetcher=open_webhook_fetcher(settings.webhooks),
        old_secret_s=settings.webhooks.old_secret_s,
    )


def _cells(webhook: Webhook) -> tuple[str, ...]:
    told = ", ".join(webhook.kinds)
    if webhook.decisions is not None:
        told += f" ({', '.join(webhook.decisions)})"
    return (webhook.id, webhook.tenant, told, webhook.state, str(webhook.waiting), str(webhook.dead), webhook.url)


def _as_json(webhook: Webhook) -> dict[str, object]:
    return {
        "webhook": webhook.id,
        "tenant": webhook.tenant,
        "url": webhook.url,
        "events": list(webhook.kinds),
        "decisions": None if webhook.decisions is None else list(webhook.decisions),
        "state": webhook.state,
        "failures": webhook.failures,
        "waiting": webhook.waiting,
        "dead": webhook.dead,
        "created_by": webhook.created_by,
        "created_at": webhook.created_at.astimezone(UTC).isoformat(),
    }
