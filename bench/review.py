"""`python -m bench.review`: what the review API costs while a hundred thousand cases are open.

In: nothing; an empty PostgreSQL is started and filled. Out: p50 and p95 of each request in milliseconds, as a table in
Markdown on stdout. Requests go through the app's own routes, without a network, each by somebody else, so that claims
pile up as they would on a busy day.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.__main__ import say
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender, KafkaConnection
from services.clients.objects import Objects
from services.core.access import Person, Role
from services.core.events import Decision, Reason, StoredImage, VerdictReached
from services.core.events import Path as Way
from services.local.postgres import Postgres
from services.settings import TelemetrySettings
from services.telemetry import open_telemetry
from services.web import review
from services.web.parts import Options, Parts

GOAL_P95_MS = 200.0
TENANTS = 10
API = "/api/v1/review"
NOWHERE = KafkaConnection("127.0.0.1:1")  # nothing here sends

Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


class Somebody:
    """Each request is made by another moderator."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        name = f"moderator-{self._requests}"
        scope.setdefault("state", {})["person"] = Person(name, name, Role.MODERATOR)
        await self._app(scope, receive, send)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where a request was not answered, not where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.review", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="open cases")
    parser.add_argument("--requests", type=int, default=200, help="requests of each kind")
    options = parser.parse_args(list(sys.argv[1:] if arguments is None else arguments))
    with tempfile.TemporaryDirectory(prefix="pentimento-review-") as folder:
        postgres = Postgres(Path(folder) / "postgres")
        postgres.start()
        try:
            asyncio.run(_measure(postgres.dsn, Path(folder), options.cases, options.requests))
        finally:
            postgres.stop()
    return 0


async def _measure(dsn: str, folder: Path, cases: int, requests: int) -> None:
    database = await Database.open(dsn, timeout_s=60)
    await database.migrate()
    say(f"opening {cases} cases")
    async with database.alone(timeout_s=1800) as connection:
        for statement in (_CASES, _MEMBERS, _VERDICTS, "analyze review_case, review_member, verdict_history"):
            await connection.execute(statement, _rows(cases) if "%(" in statement else None)
    parts = Parts(
        database=database,
        verdicts=Verdicts(database),
        objects=Objects((folder / "objects").as_uri()),
        sender=EventSender(NOWHERE),
        reader=EventReader(NOWHERE),
        telemetry=open_telemetry(TelemetrySettings(), "pentimento-bench"),
        now=lambda: datetime.now(UTC),
    )
    app = FastAPI()
    app.include_router(review.router(parts, Options("/bench", 1_000_000, 1_000_000, 0.5)))
    app.add_middleware(Somebody)
    print(f"| request, {cases} open cases | p50 ms | p95 ms | goal |\n|---|---|---|---|")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        for name, call in _CALLS.items():
            times = [await _timed(client, call) for _ in range(requests)]
            cuts = quantiles(times, n=20)
            print(f"| {name} | {cuts[9]:.0f} | {cuts[18]:.0f} | {GOAL_P95_MS:.0f} |", flush=True)
    await database.close()


async def _timed(client: httpx.AsyncClient, call: Call) -> float:
    started = perf_counter()
    (await call(client)).raise_for_status()
    return (perf_counter() - started) * 1000


_CALLS: dict[str, Call] = {
    "`GET /queue`": lambda client: client.get(f"{API}/queue"),
    "`GET /queue?tenant=`": lambda client: client.get(f"{API}/queue?tenant=tenant-3"),
    "`GET /queue?kind=`": lambda client: client.get(f"{API}/queue?kind=paths_disagree"),
    "`POST /next`": lambda client: client.post(f"{API}/next", json={}),
    "`POST /next` of a tenant": lambda client: client.post(f"{API}/next", json={"tenant": "tenant-3"}),
}


def _rows(cases: int) -> dict[str, object]:
    """What the statements below are filled with: the verdict of an upload by the name UPLOAD of TENANT."""
    now = datetime.now(UTC)
    sha256 = "0" * 64
    verdict = VerdictReached(
        upload_id="UPLOAD",
        tenant="TENANT",
        decision=Decision.INCONCLUSIVE,
        path=Way.UNCONSTRAINED,
        score=0.8,
        reasons=(Reason(code="weak_traces", text="There are weak traces of editing."),),
        image=StoredImage(
            object_key=f"images/sha256/00/{sha256}", sha256=sha256, size_bytes=9, width=640, height=480, format="JPEG"
        ),
        policy_version="bench",
        uploaded_at=now,
        judged_at=now,
    )
    return {"cases": cases, "tenants": TENANTS, "event": verdict.to_bytes().decode()}


_CASES = """
insert into review_case (id, tenant, cluster, kind, nearness, weight, members, rank, opened_at, upload_id, revision)
select gen_random_uuid(), 'tenant-' || n %% %(tenants)s, md5(n::text),
    (array['inconclusive', 'inconclusive', 'paths_disagree'])[1 + n %% 3], random(), 1, 1, random() * 5,
    now() - random() * interval '5 days', 'u-' || n, 0
from generate_series(1, %(cases)s) as n
"""
_MEMBERS = """
insert into review_member (case_id, tenant, upload_id, revision, sha256, width, height, decision, score, filename,
                           joined_at)
select id, tenant, upload_id, 0, cluster || cluster, 640, 480, 'inconclusive', nearness, upload_id || '.jpg', opened_at
from review_case
"""
_VERDICTS = """
insert into verdict_history (tenant, upload_id, revision, event)
select tenant, upload_id, 0, replace(replace(%(event)s, 'UPLOAD', upload_id), 'TENANT', tenant) from review_case
"""


if __name__ == "__main__":
    sys.exit(main())
