"""`pentimento webhooks`, on a database with a sender beside it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.clients.audit import Audit, AuditFilter
from tests.webhooks.conftest import KEY, Office
from tests.webhooks.receiver import Receiver, status


class Pentimento:
    """Runs the command line in a thread, so that senders and receiver go on."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    async def __call__(self, *arguments: str, ends: int = 0, **environment: str) -> tuple[str, str]:
        """stdout and stderr."""
        given = {**self._environment, **environment}
        result = await asyncio.to_thread(CliRunner().invoke, app, ["webhooks", *arguments], env=given)
        assert result.exit_code == ends, (result.stderr, result.exc_info)
        return result.stdout, result.stderr


@pytest.fixture
def pentimento(hooks_dsn: str, receiver: Receiver, tmp_path: Path) -> Pentimento:
    return Pentimento(
        {
            "PENTIMENTO_DATA_DIR": str(tmp_path),
            "PENTIMENTO_POSTGRES__DSN": hooks_dsn,
            "PENTIMENTO_WEBHOOKS__KEYS": json.dumps([KEY]),
            "PENTIMENTO_WEBHOOKS__ALLOWED_HOSTS": '["receiver.example"]',
            "PENTIMENTO_WEBHOOKS__PORTS": f"[{receiver.port}]",
            "PENTIMENTO_WEBHOOKS__ALLOW_HTTP": "true",
            "COLUMNS": "200",
        }
    )


async def test_a_webhook_is_added_tested_redriven_and_removed(
    office: Office, receiver: Receiver, pentimento: Pentimento
) -> None:
    asked = ("--tenant", office.tenant, "--event", "verdict", "--event", "review", "--decision", "manipulated")
    added, said = await pentimento("add", receiver.url(), *asked)
    secret = added.strip()
    assert secret.startswith("whsec_")
    assert "verdict, review" in said
    listed, _ = await pentimento("list", "--tenant", office.tenant, "--json")
    (webhook,) = [json.loads(line) for line in listed.splitlines()]
    assert (webhook["events"], webhook["decisions"]) == (["verdict", "review"], ["manipulated"])
    table, _ = await pentimento("list", "--tenant", office.tenant)
    assert webhook["webhook"] in table
    judged = await office.judge("u-1")
    async with office.sending():
        _, said = await pentimento("test", webhook["webhook"])
        assert "delivered: status 200" in said
        await office.settled(webhook["webhook"], judged)
    assert all(each.verified(secret) for each in receiver.got)
    receiver.answers["/hook"] = status(503)
    again = await office.judge("u-2")
    async with office.sending(give_up_s=0.001):
        _, said = await pentimento("test", webhook["webhook"], ends=1)
        assert "not delivered: status 503" in said
        await office.settled(webhook["webhook"], again)
    _, said = await pentimento("redrive", webhook["webhook"])
    assert "2 dead letters" in said
    await pentimento("remove", webhook["webhook"])
    assert await office.webhooks.find(webhook_id=webhook["webhook"]) == []
    entries = await Audit(office.database).find(AuditFilter(tenant=office.tenant))
    assert [each.action for each in entries] == ["webhook_removed", "webhook_redriven", "webhook_added"]
    assert {each.details["webhook"] for each in entries} == {webhook["webhook"]}
    assert all(each.subject.startswith("cli/") for each in entries)


async def test_a_test_that_nobody_sends_says_so(office: Office, pentimento: Pentimento) -> None:
    webhook, _ = await office.register()
    _, said = await pentimento("test", webhook, "--wait", "0", ends=1)
    assert "nobody sent it yet" in said


async def test_wrong_use_is_explained(receiver: Receiver, pentimento: Pentimento, office: Office) -> None:
    assert "is no event" in (await pentimento("add", receiver.url(), "--event", "ping", ends=2))[1]
    elsewhere = await pentimento("add", "https://elsewhere.example/", ends=1)
    assert "not allowed" in elsewhere[1]
    keyless = await pentimento("add", receiver.url(), ends=1, PENTIMENTO_WEBHOOKS__KEYS="[]")
    assert "PENTIMENTO_WEBHOOKS__KEYS" in keyless[1]
    for command in ("remove", "test", "redrive"):
        assert "there is no webhook nobody" in (await pentimento(command, "nobody", ends=1))[1]
