"""How the parts are, as far as this process can know: what answers, who reads, what waits.

In: the parts. Out: `PartsState`, measured every few seconds at most, however many look. The model server is asked what
it serves; workers are not asked, since nobody knows where they are: the broker says how many read in each group, and
how much waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime

import structlog

from services.core import topology
from services.core.errors import PentimentoError, Unavailable
from services.core.events import ModelVersion
from services.health import STALE
from services.web.parts import Options, Parts

log = structlog.get_logger()
ANSWER_S = 8.0
INTAKE = topology.GROUPS["intake"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part and whether it works. `detail` is for people and names no address."""

    name: str
    works: bool
    detail: str


@dataclass(frozen=True, slots=True)
class TopicLag:
    """Messages of a topic that a group has not handled."""

    topic: str
    messages: int


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its processes and what waits for them; None where Kafka did not say."""

    name: str
    processes: int | None
    waiting: int | None
    topics: tuple[TopicLag, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether messages wait and nobody is there to take them."""
        return self.processes == 0 and bool(self.waiting)


@dataclass(frozen=True, slots=True)
class PartsState:
    """All of it. `index_age_s`: how long the oldest original has waited to be registered; None: not known."""

    measured_at: datetime
    parts: tuple[Part, ...]
    groups: tuple[GroupState, ...]
    index_age_s: float | None
    models: tuple[ModelVersion, ...]
    policy_version: str

    @property
    def works(self) -> bool:
        """Whether nothing is amiss."""
        return all(part.works for part in self.parts) and not any(group.idle for group in self.groups)


async def measure(parts: Parts, options: Options) -> PartsState:
    """Asks every part at once. Never raises for a part that is away: that is an answer, too."""
    groups, age, postgres, objects, models = await asyncio.gather(
        asyncio.gather(*(_group(parts, group) for group in topology.GROUPS.values())),
        _index_age_s(parts),
        _part("PostgreSQL", parts.database.ping()),
        _part("Object store", parts.objects.exists("readyz")),
        _models(parts),
    )
    kafka = all(group.waiting is not None for group in groups)
    found = [
        Part("Kafka", kafka, "answers" if kafka else "does not answer"),
        postgres,
        objects,
        *([models[0]] if models[0] else []),
        _index(age, options.index_stale_s),
    ]
    return PartsState(parts.now(), tuple(found), tuple(groups), age, models[1], options.policy.version)


async def _group(parts: Parts, group: topology.Group) -> GroupState:
    try:
        async with asyncio.timeout(ANSWER_S):
            lag = await parts.reader.lag(group.consumer_group, group.reads)
            members = await parts.reader.members(group.consumer_group)  # after it: the group's broker is known then
    except (PentimentoError, TimeoutError) as error:
        log.warning("not_measured", group=group.name, why=str(error) or type(error).__name__)
        return GroupState(group.name, None, None)
    topics = tuple(
        TopicLag(topic, sum(messages for (name, _), messages in lag.items() if name == topic)) for topic in group.reads
    )
    return GroupState(group.name, members, sum(topic.messages for topic in topics), topics)


async def _index_age_s(parts: Parts) -> float | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            oldest = await parts.reader.oldest_waiting(INTAKE.consumer_group, topology.ORIGINALS)
    except (PentimentoError, TimeoutError) as error:
        log.warning("not_measured", index=True, why=str(error) or type(error).__name__)
        return None
    return 0.0 if oldest is None else max(0.0, (parts.now() - oldest).total_seconds())


def _index(age_s: float | None, limit_s: float) -> Part:
    if age_s is None:
        return Part("Index", works=False, detail="its age is not known")
    if age_s > limit_s:
        return Part("Index", works=False, detail=f"{STALE}: an original has waited {age_s:.0f} s to be registered")
    return Part("Index", works=True, detail="no original waits" if age_s == 0 else f"{age_s:.0f} s behind")


async def _models(parts: Parts) -> tuple[Part | None, tuple[ModelVersion, ...]]:
    """The model server, and what it serves; no part where this process was not told of one."""
    if parts.models is None:
        return None, ()
    try:
        async with asyncio.timeout(ANSWER_S):
            await parts.models.ready()
            versions = await parts.models.versions()
    except (PentimentoError, TimeoutError) as error:
        log.warning("not_ready", part="models", reason=str(error) or type(error).__name__)
        return Part("Model server", works=False, detail=_why(error)), ()
    return Part("Model server", works=True, detail="answers"), versions


async def _part(name: str, check: Awaitable[object]) -> Part:
    try:
        async with asyncio.timeout(ANSWER_S):
            await check
    except (PentimentoError, TimeoutError) as error:
        log.warning("not_ready", part=name, reason=str(error) or type(error).__name__)
        return Part(name, works=False, detail=_why(error))
    return Part(name, works=True, detail="answers")


def _why(error: Exception) -> str:
    """What people are told; the log has the rest."""
    return "does not answer" if isinstance(error, Unavailable | TimeoutError) else "answers what it should not"
