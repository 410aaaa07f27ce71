"""Deliveries on a real receiver: signed, in order, repeated, held back, given up, and never lost."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from services.clients.cases import Verdicts
from services.clients.deliveries import _WAITING, Deliveries, announce
from services.core.events import Decision, ReviewDecided, VerdictReached
from services.core.webhooks import Attempt, EventKind, GivenUp
from tests.clients.examples import verdict
from tests.webhooks.conftest import Office
from tests.webhooks.receiver import Received, Receiver, status


async def test_a_verdict_and_a_decision_arrive_signed_as_cloudevents(office: Office, receiver: Receiver) -> None:
    webhook, secret = await office.register()
    judged = await office.judge("u-1", filename="naïve „market“.jpg")
    decided = await office.decide("u-1")
    async with office.sending():
        first, second = await receiver.until("/hook", 2)
        await office.settled(webhook, decided)
    assert first.headers["content-type"] == "application/cloudevents+json"
    assert (first.id, second.id) == (judged.event_id(), decided.event_id())
    assert first.verified(secret)
    assert second.verified(secret)
    assert not first.verified("whsec_" + "A" * 43 + "=")
    assert first.event["specversion"] == "1.0"
    assert (first.event["type"], first.event["id"]) == (VerdictReached.ce_type, judged.event_id())
    assert (first.event["source"], first.event["subject"], first.event["tenant"]) == ("/test", "u-1", office.tenant)
    assert VerdictReached.model_validate(first.event["data"]) == judged
    assert ReviewDecided.model_validate(second.event["data"]) == decided


async def test_only_what_a_webhook_asked_for_is_queued_and_each_event_once(office: Office) -> None:
    everything, _ = await office.register("/a")
    forgeries, _ = await office.register("/b", decisions=(Decision.MANIPULATED,))
    reviews, _ = await office.register("/c", kinds=(EventKind.REVIEW,))
    theirs = Office(office.database, office.receiver, office.tenant + "-2")
    foreign, _ = await theirs.register("/d")
    judged = await office.judge("u-1")
    await office.judge("u-2", decision=Decision.NO_EVIDENCE)
    await Verdicts(office.database).project(judged)  # redelivered
    await office.decide("u-1", Decision.NO_EVIDENCE)
    waiting = {each: (await office.webhook(each)).waiting for each in (everything, forgeries, reviews, foreign)}
    assert waiting == {everything: 3, forgeries: 1, reviews: 1, foreign: 0}
    await theirs.webhooks.remove(foreign)


async def test_what_happened_before_a_webhook_was_registered_is_not_for_it(office: Office) -> None:
    webhook, _ = await office.register()
    async with office.database.connection() as connection:
        await connection.execute("update webhook set created_at = now() + interval '1 hour' where id = %s", [webhook])
    await office.judge("u-1")
    assert (await office.webhook(webhook)).waiting == 0


async def test_a_projection_that_fails_queues_nothing(office: Office) -> None:
    webhook, _ = await office.register()
    made = verdict("u-1", tenant=office.tenant).model_copy(update={"judged_at": datetime.now(UTC)})
    with pytest.raises(RuntimeError):
        async with office.database.connection() as connection, connection.transaction():
            await announce(connection, made)
            queued = await connection.execute("select 1 from webhook_delivery where webhook = %s", [webhook])
            assert len(await queued.fetchall()) == 1
            raise RuntimeError("the process dies before it commits")
    assert (await office.webhook(webhook)).waiting == 0


async def test_a_receiver_that_fails_is_asked_again_and_later_deliveries_of_that_upload_wait(
    office: Office, receiver: Receiver
) -> None:
    webhook, _ = await office.register()
    first = await office.judge("u-1")
    second = await office.judge("u-1", revision=1)
    other = await office.judge("u-2")
    tries = 0

    def answer(received: Any) -> Any:
        nonlocal tries
        tries += received.id == first.event_id()
        return status(500 if received.id == first.event_id() and tries < 4 else 204)(received)

    receiver.answers["/hook"] = answer
    async with office.sending():
        await office.settled(webhook, second)
        await office.settled(webhook, other)
    order = [each.id for each in receiver.got]
    assert order.count(first.event_id()) == 4
    assert order[-1] == second.event_id()
    assert order.index(other.event_id()) < 4  # what concerns another upload did not wait
    log = await office.log.attempts(webhook)
    assert [each.status for each in log if each.event_id == first.event_id()] == [204, 500, 500, 500]
    assert all(each.duration_ms > 0 for each in log)
    assert (await office.webhook(webhook)).failures == 0


async def test_a_receiver_that_hangs_holds_no_other_one_back(office: Office, receiver: Receiver) -> None:
    hanging, _ = await office.register("/hangs", kinds=(EventKind.VERDICT,))
    prompt, _ = await office.register("/prompt", kinds=(EventKind.VERDICT,))
    receiver.hanging["/hangs"] = asyncio.Event()
    judged = [await office.judge(f"u-{number}") for number in range(12)]
    async with office.sending(count=2, per_webhook=3):
        assert len(await receiver.until("/prompt", 12)) == 12
        for each in judged:
            await office.settled(prompt, each)
        assert len(receiver.of("/hangs")) == 3  # no more at once, by both senders together
        receiver.hanging["/hangs"].set()
        for each in judged:
            await office.settled(hanging, each)
    assert receiver.most_at_once["/hangs"] == 3
    assert len(receiver.of("/hangs")) == 12


async def test_several_senders_deliver_each_event_once_and_revisions_in_order(
    office: Office, receiver: Receiver
) -> None:
    webhook, _ = await office.register()
    for revision in range(3):
        for upload in range(15):
            last = await office.judge(f"u-{upload}", revision=revision)
    async with office.sending(count=4):
        await receiver.until("/hook", 45)
        await office.settled(webhook, last)
    seen = [(each.event["subject"], each.event["data"]["revision"]) for each in receiver.got]
    assert len(seen) == len(set(seen)) == 45
    for upload in range(15):
        assert [revision for subject, revision in seen if subject == f"u-{upload}"] == [0, 1, 2]


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    receiver.hanging["/hook"] = asyncio.Event()
    judged = await office.judge("u-1")
    async with office.sending(timeout_s=0.3, lease_s=30):
        await receiver.until("/hook", 2)
        receiver.hanging["/hook"].set()
        assert (await office.settled(webhook, judged)).state == "delivered"
    statuses = [each.status for each in await office.log.attempts(webhook)]
    assert statuses[0] == 200
    assert set(statuses[1:]) == {None}
    errors = [each.error for each in await office.log.attempts(webhook) if each.status is None]
    assert all("did not deliver within 0.3 s" in str(error) for error in errors)


async def test_a_redirect_is_not_followed(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    receiver.answers["/hook"] = status(307, Location=receiver.url("/elsewhere"))
    judged = await office.judge("u-1")
    async with office.sending(give_up_s=0.001):
        assert (await office.settled(webhook, judged)).status == 307
    assert receiver.of("/elsewhere") == []


async def test_retry_after_holds_everything_back_for_that_receiver(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    receiver.answers["/hook"] = status(429, Retry_After="3600")
    await office.judge("u-1")
    async with office.sending(per_webhook=1):
        await receiver.until("/hook", 1)
        while not await office.log.attempts(webhook):
            await asyncio.sleep(0.02)
        await office.judge("u-2")
        other, _ = await office.register("/other", kinds=(EventKind.VERDICT,))
        await office.settled(other, await office.judge("u-3"))
    assert len(receiver.of("/hook")) == 1
    (delivery,) = [each for each in await office.log.deliveries(webhook) if each.subject == "u-1"]
    assert (delivery.due_at - delivery.queued_at).total_seconds() >= 3500


async def test_410_disables_a_webhook_and_makes_dead_letters_of_what_waits(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    receiver.answers["/hook"] = status(410)
    first, second = await office.judge("u-1"), await office.judge("u-2")
    async with office.sending(per_webhook=1):
        assert (await office.settled(webhook, first)).reason == "gone"
        assert (await office.settled(webhook, second)).state == "dead"
    assert len(receiver.got) == 1
    assert (await office.webhook(webhook)).state == "disabled"
    await office.judge("u-3")
    assert (await office.webhook(webhook)).waiting == 0


async def test_dead_letters_are_redriven_when_the_receiver_is_back(office: Office, receiver: Receiver) -> None:
    webhook, secret = await office.register()
    receiver.answers["/hook"] = status(503)
    first, second = await office.judge("u-1"), await office.judge("u-2")
    async with office.sending(give_up_s=0.001):
        for each in (first, second):
            assert (await office.settled(webhook, each)).reason == "status"
    assert (await office.webhook(webhook)).dead == 2
    receiver.answers.clear()
    (dead,) = [each.id for each in await office.log.deliveries(webhook, state="dead") if each.subject == "u-2"]
    assert await office.log.redrive(webhook, [dead, 10**12]) == 1
    async with office.sending():
        assert (await office.settled(webhook, second)).state == "delivered"
        assert await office.log.redrive(webhook) == 1
        assert (await office.settled(webhook, first)).state == "delivered"
    assert receiver.got[-1].verified(secret)


async def test_a_webhook_that_is_paused_waits_and_then_gets_everything(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    await office.webhooks.change(webhook, "paused")
    judged = await office.judge("u-1")
    other, _ = await office.register("/other", kinds=(EventKind.VERDICT,))
    async with office.sending():
        await office.settled(other, await office.judge("u-2"))
        assert receiver.of("/hook") == []
        assert await office.log.ping(webhook, "p-1") is None
        await office.webhooks.change(webhook, "active")
        assert (await office.settled(webhook, judged)).state == "delivered"


async def test_what_waited_through_a_long_pause_is_tried_as_often_as_what_is_new(
    office: Office, receiver: Receiver
) -> None:
    webhook, _ = await office.register()
    await office.webhooks.change(webhook, "paused")
    judged = await office.judge("u-1")
    async with office.database.connection() as connection:
        aged = "update webhook_delivery set since = since - interval '2 days' where webhook = %s"
        await connection.execute(aged, [webhook])

    def answer(received: Received) -> Any:
        return status(503 if len(receiver.got) < 2 else 204)(received)

    receiver.answers["/hook"] = answer
    await office.webhooks.change(webhook, "active")
    async with office.sending():
        assert (await office.settled(webhook, judged)).state == "delivered"
    assert [each.status for each in await office.log.attempts(webhook)] == [204, 503]


async def test_to_let_go_on_what_was_not_paused_gives_no_more_time(office: Office) -> None:
    webhook, _ = await office.register()
    await office.judge("u-1")
    (before,) = await Deliveries(office.database).claim(at_most=1, per_webhook=1, lease_s=0)
    await office.webhooks.change(webhook, "active")
    (after,) = await Deliveries(office.database).claim(at_most=1, per_webhook=1, lease_s=0)
    assert after.since == before.since


async def test_both_secrets_sign_while_one_replaces_the_other(office: Office, receiver: Receiver) -> None:
    webhook, old = await office.register()
    new = "whsec_" + "QUJD" * 11
    assert await office.webhooks.rotate(webhook, sealed=office.vault.seal(new), old_for_s=3600)
    async with office.sending():
        await office.settled(webhook, await office.judge("u-1"))
        async with office.database.connection() as connection:
            await connection.execute("update webhook set old_until = now() where id = %s", [webhook])
        await office.settled(webhook, await office.judge("u-2"))
    both, one = receiver.got
    assert both.verified(old)
    assert both.verified(new)
    assert one.verified(new)
    assert not one.verified(old)


async def test_no_secret_stands_in_the_database(office: Office) -> None:
    webhook, secret = await office.register()
    async with office.database.connection() as connection:
        row = await (await connection.execute("select * from webhook where id = %s", [webhook])).fetchone()
    assert secret.removeprefix("whsec_") not in str(row)


async def test_a_ping_goes_the_same_way(office: Office, receiver: Receiver) -> None:
    webhook, secret = await office.register(kinds=(EventKind.REVIEW,))
    number = await office.log.ping(webhook, "ping-1")
    assert number is not None
    async with office.sending():
        assert (await office.settled(webhook, number)).status == 200
    (ping,) = receiver.got
    assert ping.verified(secret)
    assert ping.event["type"] == "dev.pentimento.webhook.pinged.v1"
    assert ping.event["data"] == {"webhook": webhook}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://inside.example:{port}/hook", "no public address"),
        ("http://elsewhere.example:{port}/hook", "webhooks.allowed_hosts"),
        ("http://receiver.example:1/hook", "port 1 is not allowed"),
    ],
)
async def test_what_may_not_be_reached_is_not_reached(office: Office, receiver: Receiver, url: str, why: str) -> None:
    webhook, _ = await office.register(url=url.format(port=receiver.port))
    judged = await office.judge("u-1")
    async with office.sending(give_up_s=0.001):
        assert (await office.settled(webhook, judged)).reason == "no_answer"
    (attempt,) = await office.log.attempts(webhook)
    assert why in str(attempt.error)
    assert receiver.got == []


async def test_an_event_that_was_erased_meanwhile_is_a_dead_letter(office: Office) -> None:
    webhook, _ = await office.register()
    judged = await office.judge("u-1")
    async with office.database.connection() as connection:
        await connection.execute("delete from verdict_history where tenant = %s", [office.tenant])
    async with office.sending():
        assert (await office.settled(webhook, judged)).reason == "event_missing"


async def test_a_lease_that_ended_gives_the_delivery_to_another_and_a_late_failure_changes_nothing(
    office: Office,
) -> None:
    webhook, _ = await office.register()
    judged = await office.judge("u-1")
    queue = Deliveries(office.database)
    (first,) = await queue.claim(at_most=4, per_webhook=4, lease_s=0)
    (second,) = await queue.claim(at_most=4, per_webhook=4, lease_s=60)
    assert (first.id, first.attempts, second.attempts) == (second.id, 1, 2)
    assert await queue.claim(at_most=4, per_webhook=4, lease_s=60) == []
    await queue.settle(first, Attempt(500, 1.0), GivenUp("status"))
    (delivery,) = await office.log.deliveries(webhook)
    assert (delivery.state, delivery.event_id) == ("queued", judged.event_id())


async def test_what_was_settled_long_ago_is_forgotten(office: Office) -> None:
    webhook, _ = await office.register()
    judged = await office.judge("u-1")
    await office.judge("u-2")
    receiver_is_away = office.sending(give_up_s=0.001)
    office.receiver.answers["/hook"] = status(500)
    async with receiver_is_away:
        await office.settled(webhook, judged)
    await Deliveries(office.database).prune(keep_s=3600)
    assert any(each.subject == "u-1" for each in await office.log.deliveries(webhook))
    await Deliveries(office.database).prune(keep_s=0)
    assert not any(each.subject == "u-1" for each in await office.log.deliveries(webhook))


SETTLED = """
insert into webhook_delivery (webhook, kind, event_id, subject, reference, state, settled_at)
select %(webhook)s, 'ping', 'settled-' || n, 'ping', '', %(state)s, now() - interval '2 hours'
from generate_series(1, %(count)s) as n
"""


async def test_what_was_settled_long_ago_is_forgotten_a_few_at_a_time(office: Office) -> None:
    webhook, _ = await office.register()
    await office.judge("u-1")
    await Deliveries(office.database).prune(keep_s=3600)
    async with office.database.connection() as connection:
        await connection.execute(SETTLED, {"webhook": webhook, "state": "delivered", "count": 5})
    assert await Deliveries(office.database).prune(keep_s=3600, at_once=2) == 5
    assert [each.subject for each in await office.log.deliveries(webhook)] == ["u-1"]


async def test_what_waits_is_counted_without_looking_at_what_was_delivered(office: Office) -> None:
    queue = Deliveries(office.database)
    queued, dead = await queue.waiting()
    delivered, _ = await office.register("/delivered", kinds=(EventKind.REVIEW,))
    given_up, _ = await office.register("/given-up")
    await office.judge("u-1")
    async with office.database.connection() as connection:
        await connection.execute(SETTLED, {"webhook": delivered, "state": "delivered", "count": 5000})
        await connection.execute(SETTLED, {"webhook": given_up, "state": "dead", "count": 2})
        await connection.execute("analyze webhook_delivery")
        rows = await (await connection.execute("explain " + _WAITING)).fetchall()
    assert await queue.waiting() == (queued + 1, dead + 2)
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert "Scan using webhook_delivery_dead" in plan
    assert not re.search("Seq Scan|_in_state|_settled", plan)


async def test_the_body_is_the_event_byte_for_byte(office: Office, receiver: Receiver) -> None:
    webhook, _ = await office.register()
    judged = await office.judge("u-1", text='a "quoted" text, and } and \\u0000')
    async with office.sending():
        await office.settled(webhook, judged)
    (received,) = receiver.got
    assert received.body.endswith(b'"data":' + judged.to_bytes() + b"}")
    assert json.loads(received.body)["data"]["reasons"][0]["text"] == 'a "quoted" text, and } and \\u0000'
