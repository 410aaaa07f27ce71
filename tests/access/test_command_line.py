"""`pentimento people`, `tokens` and `audit` on a real database: what they print lets people and programs in."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from services.cli.people import own_link
from services.clients.database import Database
from services.core.access import Person, Role
from services.local.postgres import Postgres
from services.settings import load_settings
from tests.access.conftest import House, migrated
from tests.cli.conftest import Outcome, Pentimento
from tests.clients.conftest import dsn_of

WHO = "/api/v1/account"


class Shell:
    """`pentimento` beside a running event loop."""

    def __init__(self, data: Path) -> None:
        self.data = data

    async def __call__(self, *arguments: str) -> Outcome:
        return await asyncio.to_thread(Pentimento(self.data), *arguments)


@pytest.fixture(scope="module")
def access_dsn(postgres: Postgres) -> str:
    """A database of their own: commands live by the clock of this machine, and all other tests days after it. What an
    address did wrong there would still be to come here, and the address would have to wait."""
    return dsn_of(postgres, f"commands_{uuid4().hex}")


@pytest.fixture(scope="module")
async def access_database(access_dsn: str) -> AsyncIterator[Database]:
    async with migrated(access_dsn) as opened:
        yield opened


@pytest.fixture
def shell(access_dsn: str, tmp_path: Path) -> Shell:
    (tmp_path / "settings.env").write_text(f"PENTIMENTO_POSTGRES__DSN='{access_dsn}'\n")
    return Shell(tmp_path)


async def known_after(house: House, path: str) -> dict[str, object]:
    """Who somebody is who opens a link, by the path that it has."""
    async with house.calling() as browser:
        entered = await browser.post("/enter", data={"ticket": path.partition("#")[2].strip()})
        assert entered.status_code == 303
        known: dict[str, object] = (await browser.get(WHO)).json()
        return known


async def test_somebody_who_was_added_signs_in_by_the_link_that_was_printed(house: House, shell: Shell) -> None:
    house.clock.moment = datetime.now(UTC)  # by which commands make what they make
    name = f"n-{uuid4().hex[:8]}"
    told = await shell("people", "add", name, "--role", "moderator", "--tenant", "acme", "--called", "Nora")
    assert told.stdout.startswith("http://127.0.0.1:8600/enter#")
    known = await known_after(house, told.stdout)
    assert (known["name"], known["role"], known["tenants"]) == ("Nora", "moderator", ["acme"])
    again = await shell("people", "add", name, "--role", "viewer")
    assert (again.status, "already" in again.stderr) == (1, True)
    assert (await shell("people", "role", name, "--role", "lead", "--tenant", "*")).status == 0
    assert (await known_after(house, (await shell("people", "link", name)).stdout))["tenants"] == ["*"]
    assert (await shell("people", "disable", name)).status == 0
    assert (await shell("people", "link", name)).status == 1
    (listed,) = [line for line in (await shell("people", "list", "--json")).lines if line["subject"] == name]
    assert (listed["role"], listed["tenants"], listed["disabled"]) == ("lead", "*", True)
    assert name in (await shell("people", "list")).stdout


@pytest.mark.parametrize("name", ["local", "a b", "a/b", ""])
async def test_a_name_that_cannot_be_signed_in_by_is_wrong_use(shell: Shell, name: str) -> None:
    assert (await shell("people", "add", name, "--role", "viewer")).status == 2


async def test_a_program_comes_in_with_the_token_that_was_printed(house: House, shell: Shell) -> None:
    house.clock.moment = datetime.now(UTC)  # by which commands make what they make
    made = await shell("tokens", "create", "uploader", "--role", "viewer", "--tenant", "acme", "--days", "30")
    bearer = {"authorization": f"Bearer {made.stdout.strip()}"}
    async with house.calling() as program:
        known = (await program.get(WHO, headers=bearer)).json()
        number = known["subject"].removeprefix("token/")
        assert (known["name"], known["tenants"]) == ("uploader", ["acme"])
        (listed,) = [line for line in (await shell("tokens", "list", "--json")).lines if str(line["token"]) == number]
        assert (listed["state"], made.stdout.strip() in str(listed)) == ("good", False)
        assert (await shell("tokens", "revoke", number)).status == 0
        assert (await program.get(WHO, headers=bearer)).status_code == 401
    assert (await shell("tokens", "revoke", number)).status == 1


async def test_the_audit_log_is_shown_filtered_and_exported(house: House, shell: Shell) -> None:
    tenant, ada = f"t-{uuid4().hex[:8]}", Person("=ada", "Ada", Role.VIEWER)
    for number in range(3):
        await house.parts.audit.record(ada, "looked", tenant=tenant, upload_id=f"u-{number}", details={"n": number})
    command = ("audit", "--tenant", tenant)
    assert "u-2" in (await shell(*command)).stdout
    lines = (await shell(*command, "--json", "--limit", "2")).lines
    assert [line["details"]["n"] for line in lines] == [2, 1]
    rows = list(csv.DictReader(io.StringIO((await shell(*command, "--csv", "--limit", "0")).stdout)))
    assert [(row["subject"], row["upload_id"]) for row in rows] == [("'=ada", f"u-{n}") for n in (2, 1, 0)]
    assert (await shell(*command, "--csv", "--json")).status == 2
    assert (await house.logged(action="audit_exported"))[0].subject.startswith("cli/")


async def test_whoever_starts_the_stack_gets_a_link_of_their_own(house: House, shell: Shell) -> None:
    house.clock.moment = datetime.now(UTC)  # by which commands make what they make
    path = await own_link(load_settings(shell.data), house.clock.now())
    assert path is not None
    assert path.startswith("/enter#")
    assert (await known_after(house, path))["role"] == "admin"
