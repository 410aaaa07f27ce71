"""One worker process: `python -m services.worker intake|judge|learn`.

In: the group's name and the settings from the environment. Out: nothing but what its stages deliver. Wires by hand what
the group needs, runs its Faust app beside a watchdog and a health endpoint, and stops cleanly on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, NoReturn

import structlog

from services.clients.candidates import Candidates, Geometries
from services.clients.cases import HardCases, Verdicts
from services.clients.database import Database
from services.clients.embedders import Embedders
from services.clients.embeddings import Embeddings
from services.clients.events import EventReader, EventSender
from services.clients.fetch import Fetcher
from services.clients.hashes import HashScan
from services.clients.late import LateQueue, Uploads
from services.clients.ledger import Ledger
from services.clients.models import Watch
from services.clients.objects import Objects
from services.clients.preparation import PreparationQueue, Unprepared
from services.clients.rejudge import RejudgeQueue
from services.clients.review_cases import ReviewCases
from services.clients.shadows import Shadows
from services.clients.standing import Standings
from services.clients.stoplist import StopList
from services.clients.upload_words import UploadWords
from services.clients.word_packing import WordPacking
from services.clients.words import WordIndex
from services.core import topology
from services.core.envelope import Message, encode
from services.core.errors import Unavailable
from services.core.events import (
    Event,
    HardCaseFound,
    ImageIntaken,
    ImageUploaded,
    OriginalRegistered,
    ReviewDecided,
    VerdictReached,
)
from services.health import HealthServer
from services.opening import (
    kafka_connection,
    open_challenger,
    open_database,
    open_embedder,
    open_models,
    open_objects,
    open_vocabulary,
    read_policy,
    stop_rules,
)
from services.settings import Settings, load_settings
from services.stream import exits
from services.stream.app import StreamApp
from services.stream.backlog import Way
from services.stream.causes import Causes
from services.stream.earlier import EarlierUploads
from services.stream.features import PictureFeatures
from services.stream.freshness import Freshness
from services.stream.guard import Guard
from services.stream.intake import Intake
from services.stream.judge import Judge
from services.stream.late import Late
from services.stream.learn import Learn, Told
from services.stream.lookup import Lookup
from services.stream.packing import Packing
from services.stream.pool import DecodePool
from services.stream.preparing import NICENESS, PATIENCE, Preparing
from services.stream.registry import Registry
from services.stream.rejudge import Rejudge
from services.stream.shadowing import Shadowing
from services.stream.stage import Progress, Stage, Surroundings
from services.stream.standing import Reporting
from services.stream.vectors import PictureVectors
from services.stream.watchdog import Lag, Watchdog
from services.stream.words import PictureWords
from services.telemetry import Telemetry, configure

log = structlog.get_logger()


def now() -> datetime:
    return datetime.now(UTC)


class Worker:
    """A group's parts, opened in order and closed in reverse."""

    def __init__(self, group: topology.Group, settings: Settings, telemetry: Telemetry) -> None:
        self._group = group
        self._settings = settings
        self._telemetry = telemetry
        self._progress = Progress(monotonic)
        self._stack = AsyncExitStack()
        self._beside: list[Late | Rejudge | Preparing | Freshness | Packing | Reporting] = []
        self._freshness: Freshness | None = None
        self._database: Database
        self._sender: EventSender

    async def run(self, stop: asyncio.Event) -> int:
        """Works until `stop` is set. Returns the exit status; non-zero where Faust crashed."""
        async with self._stack:
            await self._open()
            app = StreamApp(
                self._group, await self._stages(), kafka=self._settings.kafka, settings=self._settings.stage
            )
            watchdog = self._watchdog()
            port = await self._health(app, watchdog)
            await app.start()
            beside = [asyncio.create_task(each) for each in (watchdog.run(), *(part.run() for part in self._beside))]
            log.info("started", group=self._group.name, port=port)
            status = await self._until_stopped(app, stop, beside)
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await app.stop()
            log.info("stopped", group=self._group.name, status=status)
            return status

    async def _until_stopped(self, app: StreamApp, stop: asyncio.Event, beside: Sequence[asyncio.Task[None]]) -> int:
        stopping = asyncio.create_task(stop.wait())
        crashing = asyncio.create_task(app.crashed())
        await asyncio.wait([stopping, crashing, *beside], return_when=asyncio.FIRST_COMPLETED)
        if crashing.done():
            exits.abort(exits.CRASHED, f"Faust stopped by itself: {crashing.result()!r}")
        if ended := [task for task in beside if task.done()]:
            exits.abort(exits.CRASHED, f"a part that should run for ever ended: {ended[0].exception()!r}")
        crashing.cancel()
        return 0

    # -- parts ----------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._database = await open_database(self._settings.postgres)
        self._stack.push_async_callback(self._database.close)
        await self._database.migrate()
        kafka = self._settings.kafka
        self._sender = EventSender(kafka_connection(kafka), timeout_s=kafka.request_timeout_s)
        await self._sender.start()
        self._stack.push_async_callback(self._sender.stop)

    async def _stages(self) -> Mapping[str, Stage[Any]]:
        match self._group.name:
            case "intake":
                intake = await self._intake()
                return {
                    topology.UPLOADS: self._stage(ImageUploaded, intake.upload),
                    topology.ORIGINALS: self._stage(OriginalRegistered, intake.original, after=self._findable),
                }
            case "judge":
                judge = await self._judge()
                shadowing = self._shadowing()
                intaken = shadowing.beside(judge.intaken) if shadowing else judge.intaken
                return {topology.INTAKES: self._stage(ImageIntaken, intaken)}
            case "learn":
                learn = self._learn()
                return {
                    topology.VERDICTS: self._stage(VerdictReached, learn.verdict),
                    topology.REVIEWS: self._stage(ReviewDecided, learn.review),
                }

    def _stage(
        self, expected: type[Event], handle: Any, *, after: Callable[[Message], None] | None = None
    ) -> Stage[Any]:
        surroundings = Surroundings(
            group=self._group.name,
            consumer_group=self._group.consumer_group,
            source=self._settings.source,
            sender=self._sender,
            telemetry=self._telemetry,
            settings=self._settings.stage,
            progress=self._progress,
            now=now,
            abort=exits.abort,
        )
        return Stage(expected, handle, surroundings, after=after)

    async def _intake(self) -> Intake:
        settings = self._settings.intake
        objects = open_objects(self._settings.objects)
        candidates = Candidates(self._database, self._scan())
        pool = self._pool()
        fetcher = Fetcher(
            allowed_hosts=settings.allowed_hosts, max_bytes=settings.max_bytes, timeout_s=settings.fetch_timeout_s
        )
        self._stack.push_async_callback(fetcher.close)
        vectors, words = self._vectors(), self._words(pool)
        stops, queue = StopList(self._database, stop_rules(self._settings.stop_list)), LateQueue(self._database)
        lookup = Lookup(
            objects=objects,
            candidates=candidates,
            geometries=Geometries(self._database),
            pool=pool,
            settings=settings,
            stops=stops,
            vectors=vectors,
            words=words,
        )
        self._freshness = self._fresh()
        way = self._way(lookup, objects, candidates)
        preparing = self._preparing(objects, candidates)
        self._beside = [self._freshness, self._late(way, queue), self._rejudge(way), preparing]
        if words is not None and self._settings.words.pack:
            self._beside.append(Packing(WordPacking(self._database)))
        registry = Registry(
            candidates=candidates,
            uploads=Uploads(self._database),
            stops=stops,
            queue=queue,
            settings=self._settings,
            telemetry=self._telemetry,
            vectors=vectors,
        )
        return Intake(
            guard=Guard(objects=objects, fetcher=fetcher, candidates=candidates, pool=pool, settings=settings),
            lookup=lookup,
            candidates=candidates,
            ledger=Ledger(self._database),
            policy=read_policy(self._settings.policy),
            registry=registry,
            telemetry=self._telemetry,
            now=now,
        )

    def _pool(self, *, niceness: int = 0, patience: int = 1) -> DecodePool:
        """Processes for as many pictures as `decode_workers`; none starts before the first of them."""
        settings = self._settings.intake
        timeout_s = patience * settings.decode_timeout_s
        pool = DecodePool(workers=settings.decode_workers, timeout_s=timeout_s, niceness=niceness)
        self._stack.callback(pool.close)
        return pool

    def _preparing(self, objects: Objects, candidates: Candidates) -> Preparing:
        """Prepares originals in processes of its own, so that nothing else waits behind them."""
        settings, pool = self._settings.intake, self._pool(niceness=NICENESS, patience=PATIENCE)
        return Preparing(
            queue=PreparationQueue(self._database),
            candidates=candidates,
            objects=objects,
            features=PictureFeatures(objects=objects, pool=pool, settings=settings),
            words=self._words(pool),
            telemetry=self._telemetry,
            settings=settings,
            now=now,
        )

    def _scan(self) -> HashScan | None:
        """Hashes in this process's memory, unless they are switched off."""
        if not self._settings.intake.hashes_in_memory:
            return None
        scan = HashScan(self._database, most=self._settings.intake.hashes_in_memory)
        self._stack.push_async_callback(scan.close)
        return scan

    def _vectors(self) -> PictureVectors | None:
        """The second stage of lookup, where it is switched on."""
        settings = self._settings.embedder
        if not settings.enabled:
            return None
        watch = Watch(
            on_retry=partial(self._telemetry.retried, "embedder"),
            on_circuit=partial(self._telemetry.circuit_changed, "embedder"),
        )
        embedder = open_embedder(self._settings.models, watch)
        self._stack.push_async_callback(embedder.close)
        return PictureVectors(
            embedder=embedder,
            embedders=Embedders(self._database),
            embeddings=Embeddings(self._database),
            settings=settings,
        )

    def _words(self, pool: DecodePool) -> PictureWords | None:
        """The last stage of lookup, unless it is switched off."""
        if not self._settings.words.enabled:
            return None
        vocabulary, settings = open_vocabulary(), self._settings.words
        return PictureWords(
            index=WordIndex(self._database, vocabulary.name),
            unprepared=Unprepared(self._database),
            vocabulary=vocabulary,
            pool=pool,
            settings=settings,
            max_pixels=self._settings.intake.max_pixels,
            uploads=self._earlier(vocabulary.name) if settings.register_uploads else None,
        )

    def _earlier(self, vocabulary: str) -> EarlierUploads:
        """Uploads kept by their words, for originals that come later."""
        return EarlierUploads(
            words=UploadWords(self._database, vocabulary),
            queue=LateQueue(self._database),
            settings=self._settings.late,
            telemetry=self._telemetry,
        )

    def _way(self, lookup: Lookup, objects: Objects, candidates: Candidates) -> Way:
        """What uploads need that are judged again."""

        async def deliver(event: Event) -> None:
            with self._telemetry.span_send(event.topic, key=event.key().encode(), message_id=event.event_id()):
                trace = self._telemetry.inject()
                await self._sender.send(encode(event, source=self._settings.source, time=now(), trace=trace))

        return Way(
            candidates=candidates,
            ledger=Ledger(self._database),
            fetch=partial(objects.get, max_bytes=self._settings.intake.max_bytes),
            lookup=lookup,
            deliver=deliver,
            telemetry=self._telemetry,
            now=now,
        )

    def _late(self, way: Way, queue: LateQueue) -> Late:
        return Late(way, queue=queue, policy=read_policy(self._settings.policy), settings=self._settings.late)

    def _rejudge(self, way: Way) -> Rejudge:
        reader = EventReader(kafka_connection(self._settings.kafka))

        async def lag() -> int:
            groups = [topology.GROUPS[name] for name in ("intake", "judge")]
            lags = [await reader.lag(group.consumer_group, group.reads) for group in groups]
            return sum(messages for lag in lags for messages in lag.values())

        return Rejudge(way, queue=RejudgeQueue(self._database), settings=self._settings.rejudge, lag=lag)

    async def _judge(self) -> Judge:
        watch = Watch(
            on_retry=partial(self._telemetry.retried, "models"),
            on_circuit=partial(self._telemetry.circuit_changed, "models"),
        )
        models = open_models(self._settings.models, watch)
        self._stack.push_async_callback(models.close)
        return Judge(
            objects=open_objects(self._settings.objects),
            models=models,
            ledger=Ledger(self._database),
            causes=Causes(LateQueue(self._database), RejudgeQueue(self._database), self._telemetry),
            policy=read_policy(self._settings.policy),
            max_bytes=self._settings.intake.max_bytes,
            telemetry=self._telemetry,
            now=now,
        )

    def _shadowing(self) -> Shadowing | None:
        """The challenger that judges beside the models, where there is one."""
        settings = self._settings.shadow
        if settings.version is None:
            return None
        models = open_challenger(self._settings.models, settings.version)
        self._stack.push_async_callback(models.close)
        shadowing = Shadowing(
            models=models,
            objects=open_objects(self._settings.objects),
            shadows=Shadows(self._database),
            policy=read_policy(self._settings.policy),
            max_bytes=self._settings.intake.max_bytes,
            share=settings.share,
            in_flight=settings.in_flight,
        )
        self._stack.push_async_callback(shadowing.close)
        return shadowing

    def _learn(self) -> Learn:
        self._beside = [Reporting(Standings(self._database), self._telemetry.metrics)]
        objects = open_objects(self._settings.objects)
        self._stack.callback(objects.close)
        return Learn(
            verdicts=Verdicts(self._database),
            hard_cases=HardCases(self._database),
            reviews=ReviewCases(self._database),
            ledger=Ledger(self._database),
            objects=objects,
            policy=read_policy(self._settings.policy),
            now=now,
            told=Told(self._seen, self._found),
        )

    def _seen(self, verdict: VerdictReached) -> None:
        """Counts a verdict that is new to the projection."""
        metrics = self._telemetry.metrics
        metrics.verdicts.labels(verdict.decision.value, verdict.path.value).inc()
        for model in verdict.models:
            metrics.verdict_models.labels(model.name, model.version).inc()
        if verdict.score is not None:
            metrics.verdict_score.labels(verdict.path.value).observe(verdict.score)
        if verdict.mask is not None:
            metrics.verdict_area.labels(verdict.path.value).observe(verdict.mask.area)
        if verdict.revision == 0:  # a revision comes when it comes: nobody waits for it
            waited = (now() - verdict.uploaded_at).total_seconds()
            metrics.upload_to_verdict.observe(max(0.0, waited), self._telemetry.exemplar())

    def _found(self, case: HardCaseFound) -> None:
        """Counts a hard case that is new."""
        for reason in case.reasons:
            self._telemetry.metrics.hard_cases.labels(reason.value).inc()

    def _findable(self, message: Message) -> None:
        """Measures how long a registered original took to be findable."""
        if (sent_at := message.sent_at()) is not None:
            self._telemetry.metrics.original_to_findable.observe(max(0.0, (now() - sent_at).total_seconds()))

    # -- watching -------------------------------------------------------------------------------------------------

    def _watchdog(self) -> Watchdog:
        reader = EventReader(kafka_connection(self._settings.kafka))

        async def measure() -> Lag:
            return await reader.lag(self._group.consumer_group, self._group.reads)

        def report(lag: Lag) -> None:
            for (topic, partition), messages in lag.items():
                self._telemetry.metrics.lag.labels(topic, str(partition)).set(messages)

        return Watchdog(
            progress=self._progress,
            measure_lag=measure,
            report=report,
            patience_s=self._settings.stage.watchdog_s,
            abort=exits.abort,
        )

    def _fresh(self) -> Freshness:
        reader = EventReader(kafka_connection(self._settings.kafka))

        async def measure() -> datetime | None:
            return await reader.oldest_waiting(self._group.consumer_group, topology.ORIGINALS)

        return Freshness(
            measure=measure,
            report=self._telemetry.metrics.index_stale.set,
            limit_s=self._settings.intake.index_stale_s,
            now=now,
        )

    async def _health(self, app: StreamApp, watchdog: Watchdog) -> int:
        async def ready() -> dict[str, str | None]:
            parts: dict[str, str | None] = {"stream": None if app.assigned() else "no partitions assigned yet"}
            try:
                await self._database.ping()
                parts["postgres"] = None
            except Unavailable as error:
                parts["postgres"] = str(error)
            if self._freshness is not None:
                parts["index"] = self._freshness.trouble()
            return parts

        telemetry = self._settings.telemetry
        server = HealthServer(
            telemetry.host, telemetry.port, alive=watchdog.stuck, ready=ready, registry=self._telemetry.metrics.registry
        )
        port = await server.start()
        self._stack.push_async_callback(server.stop)
        return port


async def _main(name: str) -> int:
    settings = load_settings()
    telemetry = configure(settings.telemetry, service=f"pentimento-{name}")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await Worker(topology.GROUPS[name], settings, telemetry).run(stop)


def main() -> NoReturn:
    """Entry point. Exit status 2 for a wrong group name."""
    if len(sys.argv) != 2 or sys.argv[1] not in topology.GROUPS:
        print(f"usage: python -m services.worker {'|'.join(topology.GROUPS)}", file=sys.stderr)
        sys.exit(2)
    status = asyncio.run(_main(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)  # Faust's threads must not keep a stopped worker alive


if __name__ == "__main__":
    main()
