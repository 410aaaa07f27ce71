"""What people do to cases and its line in the audit log: both are there, or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.clients.audit import Audit, AuditFilter
from services.clients.database import Database
from services.core.errors import Broken
from tests.clients.test_review import ANN, BOB, LEA, Desk, doubt

REFUSING = "alter table audit add constraint refuses check (action = 'review_decided') not valid"
TAKING_AGAIN = "alter table audit drop constraint refuses"


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


@pytest.fixture
async def log_takes_decisions_alone(database: Database) -> AsyncIterator[None]:
    async with database.connection() as connection:
        await connection.execute(REFUSING)
    yield
    async with database.connection() as connection:
        await connection.execute(TAKING_AGAIN)


async def logged(desk: Desk) -> list[str]:
    """What was done, newest first."""
    return [entry.action for entry in await Audit(desk.database).find(AuditFilter())]


async def test_escalating_taking_over_undoing_and_reopening_each_leave_a_line(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    assert await desk.claims.give_back(ANN, case_id, "released", note="a watermark?", now=desk.now) is None
    assert await desk.claims.take(LEA, case_id, by_force=False, now=desk.now) is None
    assert await logged(desk) == ["review_escalated"]  # nobody had it: nothing was taken over
    decision = await desk.decided(LEA, case_id)
    await desk.decisions.undo(LEA, decision.id, now=desk.now)
    assert await desk.claims.take(LEA, case_id, by_force=False, now=desk.now) is None
    await desk.decided(LEA, case_id)
    desk.later(minutes=1)
    assert await desk.publish() == ["u-1"]
    assert await desk.cases.reopen(LEA, case_id, "look at the sky", now=desk.now) is None
    entries = await Audit(desk.database).find(AuditFilter(tenant="acme"))
    told = [entry.action for entry in entries]
    assert told == ["review_reopened", "review_decided", "review_undone", "review_decided", "review_escalated"]
    assert {entry.details["case"] for entry in entries} == {case_id}
    assert entries[2].details["decision_id"] == decision.id


async def test_a_case_that_is_taken_over_leaves_a_line_that_names_who_had_it(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    assert await desk.claims.take(LEA, case_id, by_force=True, now=desk.now) is None
    assert await desk.claims.take(LEA, case_id, by_force=True, now=desk.now) is None  # it is theirs already
    [entry] = await Audit(desk.database).find(AuditFilter())
    assert (entry.action, entry.subject, entry.details["from"]) == ("review_taken_over", "lea", "Ann")
    desk.later(minutes=6)
    assert await desk.claims.take(BOB, case_id, by_force=False, now=desk.now) is None  # the lock had expired
    assert await logged(desk) == ["review_taken_over"]


@pytest.mark.usefixtures("log_takes_decisions_alone")
async def test_what_cannot_be_written_down_does_not_happen(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    with pytest.raises(Broken):
        await desk.claims.give_back(ANN, case_id, "released", note="a watermark?", now=desk.now)
    with pytest.raises(Broken):
        await desk.claims.take(LEA, case_id, by_force=True, now=desk.now)
    case = await desk.see(LEA, case_id)
    assert case.lock is not None
    assert (case.lock.by, case.escalated) == ("Ann", False)
    decision = await desk.decided(ANN, case_id)
    with pytest.raises(Broken):
        await desk.decisions.undo(ANN, decision.id, now=desk.now)
    desk.later(minutes=1)
    assert await desk.publish() == ["u-1"]  # what could not be undone goes its way
    with pytest.raises(Broken):
        await desk.cases.reopen(LEA, case_id, "look at the sky", now=desk.now)
    assert (await desk.see(LEA, case_id)).state == "decided"
    assert await logged(desk) == ["review_decided"]
