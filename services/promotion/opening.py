"""Opens a promoter and a watcher from settings, with the picture that versions are tried with.

In: settings, a database, an event sender or none. Out: `Promoting`, closed at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from services.clients.database import Database
from services.clients.events import EventSender
from services.clients.models import CONSTRAINED, UNCONSTRAINED, Limits, TorchServeModels
from services.clients.promotions import Promotions, Releases
from services.clients.serving import Serving, Workers
from services.clients.watching import Counters, VerdictShares
from services.core.envelope import encode
from services.core.errors import Broken
from services.core.events import ModelPromoted
from services.core.learn import watch
from services.opening import open_objects
from services.promotion.promoter import Promoter
from services.promotion.watcher import Watcher
from services.settings import Settings


@dataclass(frozen=True, slots=True)
class Pair:
    """The picture that versions are tried with, and its original: image files."""

    upload: bytes
    original: bytes


@dataclass(frozen=True, slots=True)
class Promoting:
    """What promotes, watches and tells."""

    promoter: Promoter
    watcher: Watcher
    releases: Releases
    promotions: Promotions
    serving: Serving


@asynccontextmanager
async def opened(
    settings: Settings, database: Database, pair: Pair, sender: EventSender | None = None
) -> AsyncIterator[Promoting]:
    """Everything, wired. Raises Unavailable."""

    async def look(model: str, version: str | None = None) -> None:
        await _answered(settings, model, version, pair)

    async def publish(event: ModelPromoted) -> None:
        assert sender is not None
        await sender.send(encode(event, source=f"{settings.source}/promotion", time=datetime.now(UTC)))

    objects = open_objects(settings.objects)
    workers = Workers(count=settings.serving.workers, startup_timeout_s=settings.serving.startup_timeout_s)
    key_file, token = settings.models.key_file, _management_token(settings)
    serving = Serving(settings.serving.management_url, key_file=key_file, token=token, workers=workers)
    counters = Counters(settings.serving.metrics_url) if settings.serving.metrics_url else None
    releases, promotions = Releases(database), Promotions(database)
    promoter = Promoter(
        releases=releases,
        promotions=promotions,
        serving=serving,
        objects=objects,
        store=settings.serving.store,
        look=look,
        publish=publish if sender else None,
    )
    limits = settings.watch.model_dump(exclude={"every_s", "probe_timeout_s"})
    watcher = Watcher(
        promoter=promoter,
        serving=serving,
        ask=look,
        shares=VerdictShares(database),
        counters=counters,
        limits=watch.Limits(**limits),
        every_s=settings.watch.every_s,
    )
    try:
        yield Promoting(promoter, watcher, releases, promotions, serving)
    finally:
        await serving.close()
        if counters is not None:
            await counters.close()
        objects.close()


async def _answered(settings: Settings, model: str, version: str | None, pair: Pair) -> None:
    """Get one answer of a version, or of the one that serves. Raises what its client does."""
    if model not in (CONSTRAINED, UNCONSTRAINED):
        raise Broken(f"only {CONSTRAINED} and {UNCONSTRAINED} can be promoted, not {model}")
    once = Limits(timeout_s=settings.watch.probe_timeout_s, retry_share=0.0)
    url, key_file = settings.models.url, settings.models.key_file
    models = TorchServeModels(url, limits=once, key_file=key_file, token=_token(settings), at=version)
    try:
        if model == CONSTRAINED:
            await models.constrained(pair.upload, pair.original, None)
        else:
            await models.unconstrained(pair.upload)
    finally:
        await models.close()


def _token(settings: Settings) -> str | None:
    return settings.models.token.get_secret_value() if settings.models.token else None


def _management_token(settings: Settings) -> str | None:
    """TorchServe has a key of its own for the management API."""
    token = settings.serving.token
    return token.get_secret_value() if token else _token(settings)
