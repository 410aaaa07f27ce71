"""`pentimento tokens`: what programs come in with, from the command line.

In: a name, a role, tenants, days. Out: the token once, on stdout alone; later the list, without secrets.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, fail, note, settings_of, write_lines, write_table
from services.cli.people import RoleOption, TenantsOption, operator, tenants_given
from services.clients.audit import Audit
from services.clients.tokens import ApiToken, Tokens
from services.core.access import EVERYTHING, Grant
from services.settings import Settings

COLUMNS = ("token", "name", "role", "tenants", "of", "ends", "last used", "state")

tokens = typer.Typer(help="Tokens that programs come in with: create, list, revoke.", no_args_is_help=True)


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, as lists and the audit log show it.")],
    role: RoleOption,
    tenant: TenantsOption = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Until it ends by itself; else never.")] = None,
    data: DataOption = None,
) -> None:
    """Make a token and print it: this once, since only its hash is kept.

    Example: pentimento tokens create uploader --role moderator --tenant acme --days 365
    """
    grant = Grant(role, tenants_given(tenant))
    secret, token = asyncio.run(_created(settings_of(data), name, grant, days))
    typer.echo(secret)
    note(f"Token {token.id} is {role.value}. It is not shown again: `Authorization: Bearer <token>`.")


@tokens.command("list")
def list_tokens(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List every token, newest first, without its secret. Times are UTC.

    Example: pentimento tokens list
    """
    found = asyncio.run(_all(settings_of(data)))
    now = datetime.now(UTC)
    if as_json:
        write_lines(_as_json(each, now) for each in found)
        return
    write_table(COLUMNS, (_cells(each, now) for each in found))


@tokens.command()
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="TOKEN", min=1, help="Its number, as `tokens list` shows it.")],
    data: DataOption = None,
) -> None:
    """End a token at once.

    Example: pentimento tokens revoke 12
    """
    if not asyncio.run(_revoked(settings_of(data), token_id)):
        fail(f"there is no token {token_id} that is not revoked yet: see `pentimento tokens list`")
    note(f"token {token_id} was revoked")


async def _created(settings: Settings, name: str, grant: Grant, days: int | None) -> tuple[str, ApiToken]:
    now = datetime.now(UTC)
    expires_at = None if days is None else now + timedelta(days=days)
    said = {"token": name, "role": grant.role.value, "tenants": _tenants(grant), "days": days}
    async with opened_database(settings) as database:
        await Audit(database).record(operator(), "token_created", details=said)
        return await Tokens(database).create(name, grant, owner=None, now=now, expires_at=expires_at)


async def _all(settings: Settings) -> list[ApiToken]:
    async with opened_database(settings) as database:
        return await Tokens(database).all()


async def _revoked(settings: Settings, token_id: int) -> bool:
    async with opened_database(settings) as database:
        await Audit(database).record(operator(), "token_revoked", details={"id": token_id})
        return await Tokens(database).revoke(token_id, datetime.now(UTC))


def _tenants(grant: Grant) -> list[str]:
    return [EVERYTHING] if grant.tenants is None else sorted(grant.tenants)


def _state(token: ApiToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "over" if token.expires_at is not None and token.expires_at <= now else "good"


def _minute(when: datetime | None) -> str:
    return "" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _cells(token: ApiToken, now: datetime) -> tuple[str, ...]:
    names = ", ".join(_tenants(token.grant))
    ends, used = _minute(token.expires_at), _minute(token.used_at)
    return (str(token.id), token.name, token.role.value, names, token.owner or "", ends, used, _state(token, now))


def _as_json(token: ApiToken, now: datetime) -> dict[str, object]:
    times = {name: getattr(token, name) for name in ("created_at", "expires_at", "used_at", "revoked_at")}
    return {
        "token": token.id,
        "name": token.name,
        "role": token.role.value,
        "tenants": _tenants(token.grant),
        "owner": token.owner,
        "state": _state(token, now),
        **{name: None if when is None else when.astimezone(UTC).isoformat() for name, when in times.items()},
    }
