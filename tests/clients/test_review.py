"""Review cases on real PostgreSQL: opened by verdicts, claimed by people, decided, undone, settled, erased."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.erasure import Erasures
from services.clients.late import Uploads
from services.clients.review_cases import ReviewCases
from services.clients.review_claims import LockRules, ReviewClaims
from services.clients.review_decisions import Repeated, Request, ReviewDecisions
from services.clients.review_honeypots import _LIST, ReviewHoneypots
from services.clients.review_outbox import ReviewOutbox
from services.clients.review_people import ReviewPeople
from services.clients.review_queue import CaseFilter, Place, ReviewQueue
from services.clients.review_rows import Case, Decided, Refusal
from services.clients.review_settling import _NOT_FIRST, _NOT_SECOND
from services.clients.review_stats import ReviewStats
from services.core.access import Person, Role
from services.core.events import Decision, Path, ReviewDecided, VerdictReached
from services.core.policy import DEFAULT_POLICY, Reviewed
from services.core.review.cases import need
from services.core.review.decisions import Word
from tests.clients.examples import NOON, sha256_of, verdict

ANN = Person("ann", "Ann", Role.MODERATOR)
BOB = Person("bob", "Bob", Role.MODERATOR)
EVE = Person("eve", "Eve", Role.MODERATOR, frozenset({"other"}))
LEA = Person("lea", "Lea", Role.LEAD)
ALL = CaseFilter()


@dataclass
class Desk:
    """The clients of the review tables, and a clock that a test sets forward."""

    database: Database
    second_share: float = 0.0
    now: datetime = NOON
    sent: list[ReviewDecided] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = LockRules(timedelta(minutes=5), timedelta(hours=1))
        self.verdicts = Verdicts(self.database)
        self.cases = ReviewCases(self.database)
        self.queue = ReviewQueue(self.database)
        self.claims = ReviewClaims(self.database, rules)
        self.decisions = ReviewDecisions(self.database, second_share=self.second_share)
        self.honeypots = ReviewHoneypots(self.database, rules)
        self.people = ReviewPeople(self.database)

    def later(self, **span: float) -> None:
        self.now += timedelta(**span)

    async def reach(self, verdict: VerdictReached) -> VerdictReached:
        """What the learn group does with a verdict."""
        await self.verdicts.project(verdict)
        await self.cases.follow(verdict, need(verdict, DEFAULT_POLICY), now=self.now)
        return verdict

    async def open(self, person: Person = LEA) -> list[Case]:
        return await self.queue.page(person, ALL, limit=100, after=None, now=self.now)

    async def take(self, person: Person) -> str:
        case_id = await self.claims.next(person, ALL, now=self.now)
        assert case_id is not None
        return case_id

    async def see(self, person: Person, case_id: str) -> Case:
        found = await self.queue.case(person, case_id, now=self.now)
        assert found is not None
        return found[0]

    async def say(
        self,
        person: Person,
        case_id: str,
        decision: Reviewed = "manipulated",
        *,
        members: tuple[str, ...] | None = None,
        at_most: int | None = None,
        key: str | None = None,
    ) -> Decided | Repeated | Refusal:
        asked = Request(Word(decision), members, at_most, None, None, key, f"{case_id}/{decision}")
        undo = self.now + timedelta(seconds=10)
        return await self.decisions.decide(person, case_id, asked, now=self.now, publish_at=undo)

    async def decided(self, person: Person, case_id: str, decision: Reviewed = "manipulated") -> Decided:
        said = await self.say(person, case_id, decision)
        assert isinstance(said, Decided)
        return said

    async def publish(self) -> list[str]:
        """Everything that is due, as upload ids."""
        before = len(self.sent)

        async def deliver(events: object) -> None:
            self.sent.extend(events)  # type: ignore[arg-type]

        await ReviewOutbox(self.database).send(deliver, now=self.now)
        return [event.upload_id for event in self.sent[before:]]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def doubt(upload_id: str, word: str = "picture", against: str | None = None, **changes: object) -> VerdictReached:
    path = Path.CONSTRAINED_SPG if against else Path.UNCONSTRAINED
    said = verdict(upload_id, word=word, against=against, path=path, decision=Decision.INCONCLUSIVE)
    return said.model_copy(update=changes)


async def plan_of(desk: Desk, statement: str, **query: object) -> str:
    """How PostgreSQL runs a statement where anything is cheaper than reading a whole table."""
    async with desk.database.connection() as connection, connection.transaction():
        await connection.execute("set local enable_seqscan = off")
        rows = await (await connection.execute(f"explain {statement}", query)).fetchall()
    return "\n".join(row["QUERY PLAN"] for row in rows)


# -- cases ---------------------------------------------------------------------------------------------------------


async def test_a_verdict_in_doubt_opens_one_case_however_often_it_is_delivered(desk: Desk) -> None:
    for _ in range(3):
        await desk.reach(doubt("u-1"))
    [case] = await desk.open()
    assert (case.upload_id, case.kind, case.members, case.state) == ("u-1", "inconclusive", 1, "open")


async def test_a_verdict_that_is_certain_opens_none(desk: Desk) -> None:
    await desk.reach(verdict("u-1", decision=Decision.MANIPULATED))
    await desk.reach(verdict("u-2", decision=Decision.NO_EVIDENCE, path=Path.REVIEWED))
    assert await desk.open() == []


async def test_variants_of_one_original_that_come_at_once_are_one_case(desk: Desk) -> None:
    variants = [doubt(f"u-{number}", f"variant-{number}", "original") for number in range(60)]
    await asyncio.gather(*(desk.reach(each) for each in variants))
    [case] = await desk.open()
    assert case.members == 60


async def test_variants_of_an_earlier_upload_are_its_case_also_where_they_know_only_each_other(desk: Desk) -> None:
    await desk.reach(doubt("u-1", "a"))
    await desk.reach(doubt("u-2", "b", "a"))
    await desk.reach(doubt("u-3", "c", "b"))
    await desk.reach(doubt("u-4", "c"))
    [case] = await desk.open()
    assert case.members == 4


async def test_uploads_of_two_tenants_are_never_one_case(desk: Desk) -> None:
    await desk.reach(doubt("u-1", "a"))
    await desk.reach(doubt("u-2", "a", tenant="other"))
    assert {case.tenant for case in await desk.open()} == {"acme", "other"}
    assert [case.tenant for case in await desk.open(EVE)] == ["other"]
    [mine] = [case.id for case in await desk.open() if case.tenant == "acme"]
    assert await desk.queue.case(EVE, mine, now=desk.now) is None


async def test_a_later_revision_that_is_certain_settles_the_case_and_says_why(desk: Desk) -> None:
    first = await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    late = verdict("u-1", revision=1, decision=Decision.NO_EVIDENCE, text="It shows the same as the original.")
    await desk.reach(late)
    await desk.reach(first)  # delivered once more
    settled = await desk.see(ANN, case_id)
    assert (settled.state, settled.members) == ("settled", 0)
    assert settled.settled_because == "Revision 1 says no evidence: It shows the same as the original."
    assert await desk.say(ANN, case_id) == Refusal("case_closed", "This case is decided, or needs nobody any more.")


async def test_a_later_revision_that_is_in_doubt_too_is_what_the_case_shows(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    await desk.reach(doubt("u-1", revision=1))
    [case] = await desk.open()
    assert (case.revision, case.members) == (1, 1)


async def test_a_case_goes_on_with_its_other_members_when_the_one_that_is_shown_is_settled(desk: Desk) -> None:
    await desk.reach(doubt("u-1", "a", "original"))
    await desk.reach(doubt("u-2", "b", "original"))
    await desk.reach(verdict("u-1", word="a", revision=1, decision=Decision.NO_EVIDENCE))
    [case] = await desk.open()
    assert (case.upload_id, case.members) == ("u-2", 1)


# -- queue and claims ------------------------------------------------------------------------------------------------


async def test_pages_of_the_queue_show_every_case_once_the_most_urgent_first(desk: Desk) -> None:
    for number in range(7):
        await desk.reach(doubt(f"u-{number}", f"picture-{number}", judged_at=NOON + timedelta(hours=number)))
    found: list[Case] = []
    while page := await desk.queue.page(
        ANN, ALL, limit=3, after=Place(found[-1].rank, found[-1].id) if found else None, now=desk.now
    ):
        found += page
    assert [case.upload_id for case in found] == [f"u-{number}" for number in range(7)]
    waiting = await desk.queue.waiting(ANN, ALL)
    assert (waiting.open, waiting.oldest_at) == (7, NOON)


async def test_two_hundred_claims_at_once_never_give_a_case_twice(desk: Desk) -> None:
    for number in range(40):
        await desk.reach(doubt(f"u-{number}", f"picture-{number}"))
    people = [Person(f"p-{number}", f"P {number}", Role.MODERATOR) for number in range(200)]
    claimed = await asyncio.gather(*(desk.claims.next(person, ALL, now=desk.now) for person in people))
    given = Counter(case_id for case_id in claimed if case_id is not None)
    assert (len(given), max(given.values()), claimed.count(None)) == (40, 1, 160)


async def test_a_lock_is_its_owners_until_it_expires_and_then_anybodys(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    locked = await desk.claims.take(BOB, case_id, by_force=False, now=desk.now)
    assert locked == Refusal("case_locked", "Ann has this case before them.")
    assert await desk.claims.next(BOB, ALL, now=desk.now) is None
    desk.later(minutes=4)
    assert await desk.claims.renew(ANN, case_id, now=desk.now) == desk.now + timedelta(minutes=5)
    desk.later(minutes=4)
    assert await desk.claims.next(BOB, ALL, now=desk.now) is None
    desk.later(minutes=2)
    assert await desk.claims.next(BOB, ALL, now=desk.now) == case_id
    assert isinstance(await desk.claims.renew(ANN, case_id, now=desk.now), Refusal)
    assert await desk.say(ANN, case_id) == await desk.claims.give_back(ANN, case_id, "released", now=desk.now)


async def test_whoever_loses_a_tenant_loses_the_case_that_they_have_of_it(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    assert await desk.claims.held(ANN, ALL, now=desk.now) == case_id
    assert [case.id for case in await desk.queue.mine(ANN, now=desk.now)] == [case_id]
    moved = replace(ANN, tenants=frozenset({"other"}))
    assert await desk.claims.held(moved, ALL, now=desk.now) is None
    assert await desk.queue.mine(moved, now=desk.now) == []


async def test_a_lead_takes_over_any_lock(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    assert await desk.claims.take(LEA, case_id, by_force=True, now=desk.now) is None
    assert isinstance(await desk.say(ANN, case_id), Refusal)
    assert isinstance(await desk.say(LEA, case_id), Decided)


async def test_a_skipped_case_is_offered_to_others_and_to_the_same_person_only_later(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    assert await desk.claims.give_back(ANN, case_id, "skipped", now=desk.now) is None
    assert await desk.claims.next(ANN, ALL, now=desk.now) is None
    assert await desk.take(BOB) == case_id
    assert await desk.claims.give_back(BOB, case_id, "released", now=desk.now) is None
    desk.later(hours=2)
    assert await desk.take(ANN) == case_id


async def test_an_escalated_case_is_for_leads_and_comes_first_there(desk: Desk) -> None:
    await desk.reach(doubt("u-1", "a", judged_at=NOON - timedelta(hours=1)))
    await desk.reach(doubt("u-2", "b"))
    first = await desk.take(ANN)
    assert await desk.claims.give_back(ANN, first, "released", now=desk.now) is None
    second = next(case.id for case in await desk.open() if case.id != first)
    assert await desk.claims.take(ANN, second, by_force=False, now=desk.now) is None
    assert await desk.claims.give_back(ANN, second, "released", note="too hard", now=desk.now) is None
    assert [case.id for case in await desk.open(ANN)] == [first]
    assert [case.id for case in await desk.open(LEA)] == [second, first]
    refused = await desk.claims.take(BOB, second, by_force=False, now=desk.now)
    assert refused is not None and refused.code == "escalated"
    found = await desk.queue.case(LEA, second, now=desk.now)
    assert found is not None and [note.text for note in found[1]] == ["too hard"]


# -- decisions -------------------------------------------------------------------------------------------------------


async def test_a_decision_is_published_once_after_it_could_be_undone(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    await desk.decided(ANN, case_id)
    assert await desk.publish() == []
    desk.later(seconds=10)
    assert await desk.publish() == ["u-1"]
    assert await desk.publish() == []
    [event] = desk.sent
    assert (event.moderator, event.of_revision, event.decision) == ("ann", 0, Decision.MANIPULATED)
    assert (await desk.see(ANN, case_id)).state == "decided"


async def test_an_undone_decision_is_never_published_and_its_case_is_open_again(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    said = await desk.decided(ANN, case_id)
    desk.later(seconds=9)
    undone = await desk.decisions.undo(ANN, said.id, now=desk.now)
    assert isinstance(undone, Decided) and undone.undone_at == desk.now
    assert (await desk.see(ANN, case_id)).state == "open"
    desk.later(minutes=1)
    assert await desk.publish() == []
    again = await desk.decisions.undo(ANN, said.id, now=desk.now)
    assert isinstance(again, Refusal) and again.code == "already_undone"


async def test_a_decision_cannot_be_undone_too_late_or_by_somebody_else(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    said = await desk.decided(ANN, await desk.take(ANN))
    assert isinstance(await desk.decisions.undo(BOB, said.id, now=desk.now), Refusal)
    desk.later(seconds=10)
    late = await desk.decisions.undo(ANN, said.id, now=desk.now)
    assert isinstance(late, Refusal) and late.code == "too_late"
    assert await desk.publish() == ["u-1"]


async def test_publishers_side_by_side_send_each_decision_once_and_a_failed_one_sends_it_later(desk: Desk) -> None:
    for number in range(20):
        await desk.reach(doubt(f"u-{number}", f"picture-{number}"))
        await desk.decided(ANN, await desk.take(ANN))
    desk.later(minutes=1)

    async def fail(events: object) -> None:
        raise ConnectionError("Kafka is away")

    with pytest.raises(ConnectionError):
        await ReviewOutbox(desk.database).send(fail, now=desk.now)
    await asyncio.gather(*(desk.publish() for _ in range(4)))
    assert Counter(event.upload_id for event in desk.sent) == Counter(f"u-{number}" for number in range(20))


async def test_a_request_that_is_sent_again_decides_once(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    first = await desk.say(ANN, case_id, key="k-1")
    assert isinstance(first, Decided)
    assert await desk.say(ANN, case_id, key="k-1") == Repeated(first)
    other = await desk.say(ANN, case_id, "no_evidence", key="k-1")
    assert isinstance(other, Refusal) and other.code == "key_reused"


async def test_of_two_cases_decided_at_once_with_one_key_one_is_refused(desk: Desk) -> None:
    for _ in range(10):
        await desk.reach(doubt(f"u-{desk.now}", f"picture-{desk.now}"))
        await desk.reach(doubt(f"v-{desk.now}", f"other-{desk.now}"))
        both = [await desk.take(ANN), await desk.take(ANN)]
        said = await asyncio.gather(*(desk.say(ANN, each, key=f"k-{desk.now}") for each in both))
        [refused] = [each for each in said if isinstance(each, Refusal)]
        assert refused.code == "key_reused"
        desk.later(minutes=1)


async def test_what_is_left_of_a_case_stays_open_and_the_same_file_goes_together(desk: Desk) -> None:
    for upload, word in (("u-1", "a"), ("u-2", "b"), ("u-3", "a")):
        await desk.reach(doubt(upload, word, "original"))
    case_id = await desk.take(ANN)
    said = await desk.say(ANN, case_id, members=("u-1",), at_most=1)
    assert isinstance(said, Decided) and said.uploads == 2
    left = await desk.see(ANN, case_id)
    assert (left.state, left.members, left.upload_id, left.lock) == ("open", 1, "u-2", None)
    assert isinstance(await desk.decisions.undo(ANN, said.id, now=desk.now), Decided)
    whole = await desk.see(ANN, case_id)
    assert (whole.members, whole.upload_id) == (3, "u-1")


async def test_many_members_at_once_are_for_leads_and_all_are_published(desk: Desk) -> None:
    for number in range(102):
        await desk.reach(doubt(f"u-{number}", f"variant-{number}", "original"))
    case_id = await desk.take(ANN)
    refused = await desk.say(ANN, case_id, at_most=50)
    assert isinstance(refused, Refusal) and refused.code == "bulk_needs_lead"
    assert await desk.claims.take(LEA, case_id, by_force=True, now=desk.now) is None
    said = await desk.decided(LEA, case_id)
    desk.later(seconds=11)
    assert len(await desk.publish()) == 100
    half = await desk.decisions.get(LEA, said.id)
    assert half is not None and (half.uploads, half.sent) == (102, 100)
    assert len(await desk.publish()) == 2


async def test_a_lead_reopens_a_decided_case_about_the_revision_that_stands_by_then(desk: Desk) -> None:
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    await desk.decided(ANN, case_id)
    early = await desk.cases.reopen(LEA, case_id, "are you sure?", now=desk.now)
    assert early is not None and early.code == "case_open"
    desk.later(minutes=1)
    await desk.publish()
    await desk.reach(doubt("u-1", revision=1, path=Path.REVIEWED, decision=Decision.MANIPULATED))
    assert await desk.cases.reopen(LEA, case_id, "are you sure?", now=desk.now) is None
    reopened = await desk.see(LEA, case_id)
    assert (reopened.state, reopened.revision, reopened.members) == ("open", 1, 1)
    assert await desk.claims.take(LEA, case_id, by_force=True, now=desk.now) is None
    await desk.decided(LEA, case_id, "no_evidence")
    desk.later(minutes=1)
    await desk.publish()
    assert [event.of_revision for event in desk.sent] == [0, 1]


# -- second review ---------------------------------------------------------------------------------------------------


async def test_of_two_who_agree_without_seeing_each_other_one_decision_is_published(database: Database) -> None:
    desk = Desk(database, second_share=1.0)
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    first = await desk.decided(ANN, case_id)
    assert (await desk.see(ANN, case_id)).state == "decided"
    assert await desk.claims.next(ANN, ALL, now=desk.now) is None
    desk.later(minutes=1)
    assert await desk.publish() == []
    assert await desk.take(BOB) == case_id
    assert await desk.decisions.of_case(BOB, case_id) == []
    await desk.decided(BOB, case_id)
    late = await desk.decisions.undo(ANN, first.id, now=desk.now)
    assert isinstance(late, Refusal)
    desk.later(minutes=1)
    assert await desk.publish() == ["u-1"]
    assert [event.moderator for event in desk.sent] == ["ann"]


async def test_a_lead_sees_no_first_decision_before_there_is_a_second_one(database: Database) -> None:
    desk = Desk(database, second_share=1.0)
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    first = await desk.decided(ANN, case_id)
    assert await desk.take(LEA) == case_id
    assert await desk.decisions.of_case(LEA, case_id) == []
    assert await desk.decisions.get(LEA, first.id) is None
    assert await desk.decisions.get(ANN, first.id) is not None
    desk.later(seconds=1)
    second = await desk.decided(LEA, case_id)
    assert [each.id for each in await desk.decisions.of_case(LEA, case_id)] == [first.id, second.id]


async def test_where_two_disagree_a_lead_decides_and_nothing_else_is_published(database: Database) -> None:
    desk = Desk(database, second_share=1.0)
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    await desk.decided(ANN, case_id, "manipulated")
    assert await desk.take(BOB) == case_id
    second = await desk.decided(BOB, case_id, "no_evidence")
    assert (await desk.see(LEA, case_id)).escalated
    assert isinstance(await desk.decisions.undo(BOB, second.id, now=desk.now), Decided)
    assert not (await desk.see(LEA, case_id)).escalated
    assert await desk.claims.take(BOB, case_id, by_force=False, now=desk.now) is None
    await desk.decided(BOB, case_id, "no_evidence")
    assert await desk.take(LEA) == case_id
    await desk.decided(LEA, case_id, "no_evidence")
    desk.later(minutes=1)
    assert await desk.publish() == ["u-1"]
    assert [(event.moderator, event.decision) for event in desk.sent] == [("lea", Decision.NO_EVIDENCE)]
    [twice] = await ReviewStats(database).decided_twice(LEA, None, since=NOON)
    assert (twice.first.decision, twice.second.decision) == ("manipulated", "no_evidence")


async def test_a_second_decision_cannot_be_undone_once_a_lead_has_decided(database: Database) -> None:
    desk = Desk(database, second_share=1.0)
    await desk.reach(doubt("u-1"))
    case_id = await desk.take(ANN)
    await desk.decided(ANN, case_id, "manipulated")
    assert await desk.take(BOB) == case_id
    second = await desk.decided(BOB, case_id, "no_evidence")
    assert await desk.take(LEA) == case_id
    desk.later(seconds=1)
    final = await desk.decided(LEA, case_id, "manipulated")
    late = await desk.decisions.undo(BOB, second.id, now=desk.now)
    assert isinstance(late, Refusal) and late.code == "too_late"
    assert (await desk.see(LEA, case_id)).state == "decided"
    assert isinstance(await desk.decisions.undo(LEA, final.id, now=desk.now), Decided)
    assert isinstance(await desk.decisions.undo(BOB, second.id, now=desk.now), Decided)
    assert not (await desk.see(LEA, case_id)).escalated


@pytest.mark.parametrize("undone", [False, True], ids=["stands", "was undone"])
async def test_two_who_agreed_on_a_part_stay_agreed_once_somebody_decided_the_rest(
    database: Database, undone: bool
) -> None:
    desk = Desk(database, second_share=1.0)
    for upload, word in (("u-1", "a"), ("u-2", "b")):
        await desk.reach(doubt(upload, word, "original"))
    case_id = await desk.take(ANN)
    await desk.decided(ANN, case_id)
    assert await desk.take(BOB) == case_id
    second = await desk.say(BOB, case_id, members=("u-1",))
    assert isinstance(second, Decided)
    assert await desk.take(LEA) == case_id
    desk.later(seconds=1)
    rest = await desk.decided(LEA, case_id)
    if undone:
        assert isinstance(await desk.decisions.undo(LEA, rest.id, now=desk.now), Decided)
    late = await desk.decisions.undo(BOB, second.id, now=desk.now)
    assert isinstance(late, Refusal) and late.code == "too_late"
    desk.later(minutes=1)
    assert await desk.publish() == ["u-1"]


@pytest.mark.parametrize("statement", [_NOT_FIRST, _NOT_SECOND], ids=["first", "second"])
async def test_the_case_of_an_undone_decision_is_found_by_index(desk: Desk, statement: str) -> None:
    plan = await plan_of(desk, statement, id=uuid4(), case_id=uuid4())
    assert "review_case_pkey" in plan


# -- honeypots -------------------------------------------------------------------------------------------------------


async def test_a_case_with_a_known_answer_is_shown_once_to_each_and_never_published(desk: Desk) -> None:
    known = await desk.reach(doubt("u-known", "known"))
    await desk.reach(doubt("u-known", "known", revision=1, path=Path.REVIEWED, decision=Decision.MANIPULATED))
    added = await desk.honeypots.add(LEA, known, "inconclusive", "manipulated", now=desk.now)
    assert not isinstance(added, Refusal)
    assert isinstance(await desk.honeypots.add(LEA, known, "inconclusive", "manipulated", now=desk.now), Refusal)
    case_id = await desk.honeypots.serve(ANN, None, now=desk.now)
    assert case_id is not None
    assert await desk.open(LEA) == []
    assert await desk.queue.case(BOB, case_id, now=desk.now) is None
    shown = await desk.see(ANN, case_id)
    assert (shown.upload_id, shown.revision, shown.kind, shown.state) == ("u-known", 0, "inconclusive", "open")
    await desk.decided(ANN, case_id, "no_evidence")
    assert (await desk.see(ANN, case_id)).state == "decided"
    desk.later(minutes=1)
    assert await desk.publish() == []
    assert await desk.honeypots.serve(ANN, None, now=desk.now) is None
    assert await desk.honeypots.serve(BOB, None, now=desk.now) is not None
    [work] = [each for each in await ReviewStats(desk.database).work(LEA, None, since=NOON) if each.person == "ann"]
    assert (work.decided, work.honeypots, work.honeypots_right) == (1, 1, 0)


async def test_known_answers_are_counted_by_index(desk: Desk) -> None:
    assert "review_case_of_honeypot" in await plan_of(desk, _LIST)


# -- people ----------------------------------------------------------------------------------------------------------


async def test_exposure_counts_the_cases_and_minutes_of_a_day(desk: Desk) -> None:
    for number in range(2):
        await desk.reach(doubt(f"u-{number}", f"picture-{number}"))
        case_id = await desk.take(ANN)
        desk.later(minutes=3)
        await desk.decided(ANN, case_id)
    seen = await desk.people.exposure(ANN, cases_limit=2, minutes_limit=None, now=desk.now)
    assert (seen.cases, seen.minutes, seen.used_up) == (2, 6.0, True)
    desk.later(days=1)
    seen = await desk.people.exposure(ANN, cases_limit=2, minutes_limit=None, now=desk.now)
    assert (seen.cases, seen.used_up) == (0, False)


# -- erasure ---------------------------------------------------------------------------------------------------------


async def test_nothing_of_a_case_is_left_of_a_picture_that_is_erased(desk: Desk) -> None:
    for upload, word in (("u-1", "a"), ("u-2", "b"), ("u-3", "alone")):
        await Uploads(desk.database).remember("acme", upload, sha256_of(word))
    await desk.reach(doubt("u-1", "a", "original", filename="me.jpg"))
    await desk.reach(doubt("u-2", "b", "original"))
    await desk.reach(doubt("u-3", "alone"))
    case_id = next(case.id for case in await desk.open() if case.members == 2)
    assert await desk.claims.take(ANN, case_id, by_force=False, now=desk.now) is None
    member = await desk.people.drawable(ANN, case_id, "u-1")
    assert not isinstance(member, Refusal)
    await desk.people.drew(ANN, case_id, member, "masks/sha256/ab/abcd.png", now=desk.now)
    for word in ("a", "alone", "original"):
        async with Erasures(desk.database).erasing("acme", sha256_of(word)) as erasing:
            assert await erasing.left() == []
            assert ("masks/sha256/ab/abcd.png" in erasing.found.objects) == (word == "a")
    [case] = await desk.open()
    assert (case.upload_id, case.members) == ("u-2", 1)
