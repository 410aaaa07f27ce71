"""INDEX-STALE: when readiness says it, and with which age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.core.errors import Unavailable
from services.stream.freshness import Freshness

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class World:
    """A clock, and an oldest original that waits at the broker."""

    def __init__(self) -> None:
        self.now = NOON
        self.oldest: datetime | None = None
        self.away = False
        self.reported: list[float] = []
        self.freshness = Freshness(measure=self.measure, report=self.reported.append, limit_s=60, now=lambda: self.now)

    async def measure(self) -> datetime | None:
        if self.away:
            raise Unavailable("kafka", "away")
        return self.oldest


async def test_an_index_that_nothing_waits_for_is_fresh() -> None:
    world = World()
    await world.freshness.look()
    assert world.freshness.trouble() is None
    assert world.reported == [0.0]


async def test_an_index_is_stale_from_the_limit_on_and_says_the_age() -> None:
    world = World()
    world.oldest = NOON - timedelta(seconds=60)
    await world.freshness.look()
    assert world.freshness.trouble() is None
    world.now += timedelta(seconds=15)  # between two looks the age grows on
    assert world.freshness.trouble() == "INDEX-STALE: an original has waited 75 s to be registered (limit 60 s)"
    await world.freshness.look()
    assert world.reported == [60.0, 75.0]
    world.oldest = None
    await world.freshness.look()
    assert world.freshness.trouble() is None


async def test_while_the_broker_is_away_what_was_known_stays() -> None:
    world = World()
    world.oldest = NOON - timedelta(seconds=100)
    await world.freshness.look()
    world.away = True
    world.now += timedelta(seconds=100)
    await world.freshness.look()
    assert world.freshness.trouble() == "INDEX-STALE: an original has waited 200 s to be registered (limit 60 s)"
