"""`pentimento people`: who may come in to the page, from the command line. Also the one-time link that `up` prints.

In: names, roles, tenants. Out: a table or JSON lines, accounts, links. Whoever may run this has the database, and so
everything that an administrator has; the audit log names them by their user name here.
"""

from __future__ import annotations

import asyncio
import getpass
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, fail, note, settings_of, write_lines, write_table, wrong_use
from services.clients.accounts import Account, People
from services.clients.audit import Audit
from services.clients.sessions import Sessions
from services.clients.signins import SignIns
from services.core.access import EVERYTHING, Person, Role, is_subject, is_tenant, tenants_of_words
from services.settings import Settings

COLUMNS = ("known as", "name", "role", "tenants", "from", "disabled", "last seen")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What they are known as: a word without spaces.")]
RoleOption = Annotated[Role, typer.Option("--role", help="What they may do.")]
TenantsOption = Annotated[
    list[str] | None, typer.Option("--tenant", help="A tenant that they see; several times for several; '*': all.")
]

people = typer.Typer(help="People who may come in to the page: list, add, role, disable, link.", no_args_is_help=True)


@people.command("list")
def list_people(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List everybody who may come in, or once might. Times are UTC.

    Example: pentimento people list --json
    """
    accounts = asyncio.run(_all(settings_of(data)))
    if as_json:
        write_lines(_as_json(each) for each in accounts)
        return
    write_table(COLUMNS, (_cells(each) for each in accounts))


@people.command()
def add(
    name: NameArgument,
    role: RoleOption,
    tenant: TenantsOption = None,
    called: Annotated[str | None, typer.Option("--called", help="Their name as pages show it.")] = None,
    data: DataOption = None,
) -> None:
    """Add somebody, and print the one-time link by which they sign in.

    Example: pentimento people add nora --role moderator --tenant acme
    """
    if not is_subject(name):
        raise wrong_use(f"{name!r} is no name to sign in by: a word of letters, digits and . _ @ + -")
    account = Account(name, called or name, None, role, tenants_given(tenant))
    settings = settings_of(data)
    ticket = asyncio.run(_added(settings, account))
    if ticket is None:
        fail(f"there is somebody by the name {name} already: see `pentimento people list`")
    _show_link(settings, ticket)


@people.command("role")
def change_role(name: NameArgument, role: RoleOption, tenant: TenantsOption = None, data: DataOption = None) -> None:
    """Give somebody another role, and other tenants where some are named. It holds at once.

    Example: pentimento people role nora --role lead --tenant acme --tenant labs
    """
    account = asyncio.run(_changed(settings_of(data), name, role=role, tenant=tenant))
    note(f"{account.subject} is {account.role.value} of {_tenants(account)}")


@people.command()
def disable(
    name: NameArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    data: DataOption = None,
) -> None:
    """Let somebody in no more: their sessions and tokens end at once.

    Example: pentimento people disable nora
    """
    account = asyncio.run(_changed(settings_of(data), name, disabled=not undo))
    note(f"{account.subject} is {'disabled' if account.disabled else 'let in again'}")


@people.command()
def link(name: NameArgument, data: DataOption = None) -> None:
    """Print a one-time link by which somebody signs in within ten minutes.

    Example: pentimento people link nora
    """
    settings = settings_of(data)
    ticket = asyncio.run(_invited(settings, name))
    _show_link(settings, ticket)


async def own_link(settings: Settings, now: datetime) -> str | None:
    """The path of a one-time link for whoever runs this, `/enter#...`; they become an administrator if they are new.

    None where their account was disabled. Raises Unavailable.
    """
    user = getpass.getuser()
    subject = user if is_subject(user) else "operator"
    async with opened_database(settings) as database:
        store = People(database)
        await store.add(Account(subject, user, None, Role.ADMIN, None))
        account = await store.get(subject)
        if account is None or account.disabled:
            return None
        return f"/enter#{await SignIns(database).invite(subject, now)}"


def operator() -> Person:
    """Whoever runs a command, as the audit log knows them."""
    user = getpass.getuser()
    return Person(f"cli/{user}", user, Role.ADMIN)


def tenants_given(named: list[str] | None) -> frozenset[str] | None:
    """Tenants from the command line; `default` where none is named. Exit status 2 for what is no tenant."""
    tenants = tenants_of_words(named or ["default"])
    if wrong := [each for each in tenants or () if not is_tenant(each)]:
        raise wrong_use(f"{wrong[0]!r} is no tenant: letters, digits and . _ -, or '*' for all of them")
    return tenants


async def _all(settings: Settings) -> list[Account]:
    async with opened_database(settings) as database:
        return await People(database).all(limit=100_000)


async def _added(settings: Settings, account: Account) -> str | None:
    async with opened_database(settings) as database:
        if not await People(database).add(account):
            return None
        await Audit(database).record(operator(), "person_added", details=_said(account))
        return await SignIns(database).invite(account.subject, datetime.now(UTC))


async def _changed(
    settings: Settings,
    name: str,
    *,
    role: Role | None = None,
    tenant: list[str] | None = None,
    disabled: bool | None = None,
) -> Account:
    async with opened_database(settings) as database:
        known = await People(database).get(name)
        if known is None:
            fail(f"there is nobody by the name {name}: see `pentimento people list`")
        if known.origin == "oidc" and role is not None:
            fail(f"the claims of the OpenID provider decide about {name}: change them there, or disable the account")
        account = replace(
            known,
            role=role or known.role,
            tenants=known.tenants if tenant is None else tenants_given(tenant),
            disabled=known.disabled if disabled is None else disabled,
        )
        await Audit(database).record(operator(), "person_changed", details=_said(account))
        await People(database).change(account)
        if account.disabled:
            await Sessions(database, timedelta(0)).end(account.subject)
    return account


async def _invited(settings: Settings, name: str) -> str:
    async with opened_database(settings) as database:
        account = await People(database).get(name)
        if account is None or account.disabled:
            fail(f"there is nobody by the name {name} who may come in: see `pentimento people list`")
        await Audit(database).record(operator(), "link_made", details={"subject": name})
        return await SignIns(database).invite(name, datetime.now(UTC))


def _show_link(settings: Settings, ticket: str) -> None:
    base = (settings.web.public_url or f"http://127.0.0.1:{settings.web.port}").rstrip("/")
    typer.echo(f"{base}/enter#{ticket}")
    note("The link works once, within ten minutes.")


def _tenants(account: Account) -> str:
    return "all tenants" if account.tenants is None else ", ".join(sorted(account.tenants))


def _said(account: Account) -> dict[str, object]:
    tenants = EVERYTHING if account.tenants is None else sorted(account.tenants)
    return {"subject": account.subject, "role": account.role.value, "tenants": tenants, "disabled": account.disabled}


def _cells(account: Account) -> tuple[str, ...]:
    seen = "" if account.seen_at is None else f"{account.seen_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    gone = "yes" if account.disabled else ""
    return (account.subject, account.name, account.role.value, _tenants(account), account.origin, gone, seen)


def _as_json(account: Account) -> dict[str, object]:
    return {
        **_said(account),
        "name": account.name,
        "email": account.email,
        "origin": account.origin,
        "created_at": None if account.created_at is None else account.created_at.astimezone(UTC).isoformat(),
        "seen_at": None if account.seen_at is None else account.seen_at.astimezone(UTC).isoformat(),
    }
