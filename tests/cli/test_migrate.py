"""`pentimento migrate`: what it does, what it says, and that looking changes nothing."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli import app
from services.clients.migrating import REVISIONS
from services.local.postgres import Postgres
from tests.clients.conftest import dsn_of


@pytest.fixture
def empty_dsn(postgres: Postgres) -> str:
    """A database that is not there yet."""
    return dsn_of(postgres, f"migrate_{uuid4().hex}")


def migrate(dsn: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["migrate", *words], env={"PENTIMENTO_POSTGRES__DSN": dsn})


def test_it_says_what_it_applied_and_that_there_is_nothing_left(empty_dsn: str) -> None:
    first = migrate(empty_dsn, "--json")
    assert first.exit_code == 0
    newest = {"revision": REVISIONS[-1], "pending": [], "newer": False}
    assert json.loads(first.stdout) == {**newest, "applied": list(REVISIONS)}
    assert json.loads(migrate(empty_dsn, "--json").stdout) == {**newest, "applied": []}
    again = migrate(empty_dsn)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing to do" in again.stderr


def test_a_look_at_a_database_that_lacks_revisions_fails_and_changes_nothing(postgres: Postgres) -> None:
    looked = migrate(postgres.dsn, "--check", "--json")  # nobody makes tables in this one
    assert looked.exit_code == 1
    assert json.loads(looked.stdout)["pending"] == list(REVISIONS)
    assert "pentimento migrate" in looked.stderr
    assert migrate(postgres.dsn, "--check").exit_code == 1


def test_the_sql_of_a_database_that_is_up_to_date_is_none(empty_dsn: str, postgres: Postgres) -> None:
    script = migrate(postgres.dsn, "--sql")
    assert script.exit_code == 0
    assert "create table if not exists ledger (" in script.stdout
    assert "create index concurrently if not exists ledger_of_candidate" in script.stdout
    migrate(empty_dsn)
    assert migrate(empty_dsn, "--sql").stdout == ""


def test_looking_and_writing_sql_at_once_is_wrong_use(empty_dsn: str) -> None:
    assert migrate(empty_dsn, "--check", "--sql").exit_code == 2
