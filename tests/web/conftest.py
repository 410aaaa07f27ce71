"""The web app on real PostgreSQL, real Kafka and a folder of objects, with a few verdicts to look at."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender, KafkaConnection
from services.clients.objects import Objects
from services.clients.review_cases import ReviewCases
from services.core.events import (
    Candidate,
    CocoRle,
    Decision,
    Mask,
    ModelVersion,
    Path,
    Reason,
    Region,
    StoredImage,
    VerdictReached,
)
from services.core.intake.keys import image_key, mask_key
from services.core.pixels import encode_png
from services.core.policy import DEFAULT_POLICY
from services.core.review.cases import need
from services.finding import open_finder
from services.local.kafka import Kafka
from services.local.postgres import Postgres
from services.settings import Settings, TelemetrySettings
from services.telemetry import Telemetry, open_telemetry
from services.web.app import create_app
from services.web.parts import Options, Parts
from tests.web.chromium import CHROMIUM, QUIET, watched

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SIZE = (360, 240)
TOKEN = "a-token-that-is-long-enough"
OPTIONS = Options(source="/test", max_bytes=200_000, max_pixels=4_000_000)


@pytest.fixture(scope="session")
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    dsn = make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": f"web_{uuid4().hex}"})
    opened = await Database.open(dsn, pool_size=4, timeout_s=20)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def telemetry() -> Telemetry:
    return open_telemetry(TelemetrySettings(), "pentimento-web-test")


@pytest.fixture(scope="session")
async def parts(
    database: Database, kafka: Kafka, telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Parts]:
    connection = KafkaConnection(kafka.bootstrap_servers)
    sender = EventSender(connection)
    await sender.start()
    objects = Objects(tmp_path_factory.mktemp("objects").as_uri())
    stack = AsyncExitStack()
    yield Parts(
        database=database,
        verdicts=Verdicts(database),
        objects=objects,
        sender=sender,
        reader=EventReader(connection),
        telemetry=telemetry,
        now=lambda: datetime.now(UTC),
        seek=open_finder(Settings(), database, objects, stack).seek,
    )
    await stack.aclose()
    objects.close()
    await sender.stop()


@pytest.fixture(scope="session")
def bare(database: Database, telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Parts without a broker, for tests that send and read no events."""
    nowhere = KafkaConnection("127.0.0.1:1")
    return Parts(
        database=database,
        verdicts=Verdicts(database),
        objects=Objects(tmp_path_factory.mktemp("bare").as_uri()),
        sender=EventSender(nowhere),
        reader=EventReader(nowhere),
        telemetry=telemetry,
        now=lambda: datetime.now(UTC),
    )


@pytest.fixture(scope="session")
def app(parts: Parts) -> FastAPI:
    return create_app(parts, OPTIONS)


@pytest.fixture(scope="session")
def locked_app(parts: Parts) -> FastAPI:
    return create_app(parts, replace(OPTIONS, token=TOKEN))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app) as opened:
        yield opened


@pytest.fixture
async def locked(locked_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(locked_app) as opened:
        yield opened


def calling(app: FastAPI, host: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client of the app that names `host`."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The app on a real socket; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # listens already: a client waits, and is never refused
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


# -- a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests; each page is a profile of its own."""
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        await opened.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails the test when the console complains."""
    async with watched(browser) as opened:
        yield opened


# -- verdicts to look at --------------------------------------------------------------------------------------------


def photo(seed: int, size: tuple[int, int] = SIZE, *, disc: bool = False) -> bytes:
    """A JPEG with soft colours and a horizon, different for each seed, with a comment that must never be served.

    With `disc`, something was added a little right of its middle.
    """
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [0.5 + 0.4 * np.sin(phase[i] + 4 * x * (i + 1) + 5 * y) for i in range(3)]
    rgb = (np.stack(waves, axis=-1) * 255).astype(np.uint8)
    if disc:
        rgb[np.hypot((x - 0.62) * width, (y - 0.5) * height) < height / 8] = (250, 240, 60)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=90, comment=SECRET)
    return buffer.getvalue()


SECRET = b"<script>hidden in the file</script>"


def soft_mask(region: Region, size: tuple[int, int] = SIZE) -> bytes:
    """A mask's PNG: certain inside of the region, nothing outside."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[region.y : region.y + region.height, region.x : region.x + region.width] = 240
    return encode_png(mask)


@dataclass(frozen=True)
class Gallery:
    """Makes verdicts, with their pictures in the object store."""

    parts: Parts
    tenant: str

    async def stored(self, data: bytes, size: tuple[int, int] = SIZE) -> StoredImage:
        digest = hashlib.sha256(data).hexdigest()
        key = image_key(digest)
        await self.parts.objects.put(key, data, "image/jpeg")
        return StoredImage(
            object_key=key, sha256=digest, size_bytes=len(data), width=size[0], height=size[1], format="JPEG"
        )

    async def manipulated(self, upload_id: str, seed: int, **changes: object) -> VerdictReached:
        original = await self.stored(photo(seed))
        region = Region(x=200, y=90, width=90, height=80, area=0.083)
        png = soft_mask(region)
        await self.parts.objects.put(mask_key(png), png, "image/png")
        mask = Mask(
            object_key=mask_key(png),
            rle=CocoRle(size=(SIZE[1], SIZE[0]), counts="PPPe0"),
            area=0.083,
            regions=(region,),
            qes=0.91,
        )
        candidate = Candidate(
            original_id=f"agency-{seed}",
            sha256=original.sha256,
            object_key=original.object_key,
            trusted=True,
            source="news agency",
            registered_at=NOON - timedelta(days=3),
            distance=18,
            inliers=211,
            overlap=0.99,
        )
        return await self.show(
            _verdict(self.tenant, upload_id, **changes).model_copy(
                update={
                    "decision": Decision.MANIPULATED,
                    "path": Path.CONSTRAINED_SPG,
                    "score": 0.93,
                    "reasons": (
                        Reason(code="differs_from_original", text=f"8.3% of the picture differs from agency-{seed}."),
                    ),
                    "image": await self.stored(photo(seed + 1000)),
                    "mask": mask,
                    "candidate": candidate,
                    "models": (ModelVersion(name="constrained", version="0.1.0+0123456789ab"),),
                    "timings_ms": {"guard": 20.5, "lookup": 90.0, "constrained": 1310.0},
                }
            )
        )

    async def doubtful(self, upload_id: str, seed: int, size: tuple[int, int] = SIZE) -> VerdictReached:
        """A verdict for a person: an upload with a disc that its original, twice as large, does not have."""
        verdict = await self.manipulated(upload_id, seed)
        upload = photo(seed, size, disc=True)
        original = await self.stored(photo(seed, (2 * size[0], 2 * size[1])), (2 * size[0], 2 * size[1]))
        region = Region(x=size[0] // 2, y=size[1] // 3, width=size[0] // 4, height=size[1] // 3, area=0.083)
        png = soft_mask(region, size)
        await self.parts.objects.put(mask_key(png), png, "image/png")
        assert verdict.mask is not None and verdict.candidate is not None
        reason = Reason(code="differs_from_original", text=f"A part of the picture differs from agency-{seed}.")
        changes = {
            "decision": Decision.INCONCLUSIVE,
            "score": 0.66,
            "reasons": (reason,),
            "image": await self.stored(upload, size),
            "mask": verdict.mask.model_copy(update={"object_key": mask_key(png), "regions": (region,)}),
            "candidate": verdict.candidate.model_copy(
                update={
                    "sha256": original.sha256,
                    "object_key": original.object_key,
                    "homography": (0.5, 0, -0.25, 0, 0.5, -0.25, 0, 0, 1),
                }
            ),
        }
        return await self.show(verdict.model_copy(update={**changes, "revision": 1}))

    async def case(self, upload_id: str, seed: int) -> VerdictReached:
        """A doubtful verdict that waits for somebody."""
        verdict = await self.doubtful(upload_id, seed)
        await ReviewCases(self.parts.database).follow(verdict, need(verdict, DEFAULT_POLICY), now=datetime.now(UTC))
        return verdict

    async def no_evidence(self, upload_id: str, seed: int, **changes: object) -> VerdictReached:
        image = await self.stored(photo(seed))
        return await self.show(_verdict(self.tenant, upload_id, **changes).model_copy(update={"image": image}))

    async def rejected(self, upload_id: str, **changes: object) -> VerdictReached:
        reason = Reason(code="truncated", text="The image ends before its picture does.")
        update = {"decision": Decision.REJECTED, "path": Path.REJECTED, "score": None, "reasons": (reason,)}
        return await self.show(_verdict(self.tenant, upload_id, **changes).model_copy(update=update))

    async def show(self, verdict: VerdictReached) -> VerdictReached:
        await self.parts.verdicts.project(verdict)
        return verdict


def _verdict(tenant: str, upload_id: str, **changes: object) -> VerdictReached:
    return VerdictReached(
        tenant=tenant,
        upload_id=upload_id,
        decision=Decision.NO_EVIDENCE,
        path=Path.UNCONSTRAINED,
        score=0.06,
        reasons=(Reason(code="no_traces", text="No evidence of editing was found (score 0.06)."),),
        policy_version="default-0123456789",
        index_version="pdq-1/3",
        uploaded_at=NOON,
        judged_at=NOON + timedelta(seconds=1),
    ).model_copy(update=changes)


@pytest.fixture
def gallery(parts: Parts) -> Gallery:
    """A tenant of its own for each test."""
    return Gallery(parts, f"tenant-{uuid4().hex[:12]}")
