"""`python -m bench.search`: how long searches take among many verdicts, on a PostgreSQL of its own.

In: how many verdicts. Out: p50 and p95 of each kind of search and of counting, as lines of Markdown on stdout, and with
`--explain` how PostgreSQL goes about each. Verdicts are made up row by row in the database, in the size of real ones.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from bench.__main__ import busy_share, machine, say
from services.clients.activity import Activity
from services.clients.cases import Cursor
from services.clients.database import Database
from services.clients.feed import Arrivals
from services.clients.searching import Search, Searches, conditions_of
from services.core.errors import PentimentoError
from services.core.events import Decision, Reason, VerdictReached
from services.core.events import Path as Way
from services.core.series import STEPS, columns
from services.local.postgres import Postgres

GOAL_P95_MS = 200.0
TIMES = 40
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PAGE = 25


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where something did not work, not where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--verdicts", type=int, default=100_000, help="rows that are searched")
    parser.add_argument("--times", type=int, default=TIMES, help="searches of each kind")
    parser.add_argument("--explain", action="store_true", help="also say how PostgreSQL finds each")
    options = parser.parse_args(list(sys.argv[1:] if arguments is None else arguments))
    try:
        with tempfile.TemporaryDirectory(prefix="pentimento-search-") as folder:
            busy = busy_share(1.0)
            server = Postgres(Path(folder) / "postgres")
            server.start()
            try:
                asyncio.run(measured(server.dsn, options.verdicts, options.times, explain=options.explain))
            finally:
                server.stop()
            print(f"\n{options.verdicts} verdicts, {options.times} searches of each kind; {machine()}, busy {busy:.0%}")
    except PentimentoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def measured(dsn: str, verdicts: int, times: int, *, explain: bool) -> None:
    """Fills the database, then prints a line for each kind of search. Raises Unavailable."""
    database = await Database.open(dsn, pool_size=2, timeout_s=60)
    try:
        await database.migrate()
        say(f"making {verdicts} verdicts")
        await fill(database, verdicts)
        searches, activity, arrivals = Searches(database), Activity(database), Arrivals(database)
        print("| search | p50 ms | p95 ms | count p95 ms |\n|---|---|---|---|")
        for name, search in kinds().items():
            found = await timed(lambda search=search: searches.find(search, limit=PAGE), times)  # type: ignore[misc]
            counted = await timed(lambda search=search: searches.count(search), times)  # type: ignore[misc]
            print(f"| {name} | {found[0]:.1f} | {found[1]:.1f} | {counted[1]:.1f} |")
            if explain:
                await explained(database, name, search)
        deep = Cursor(NOON - timedelta(seconds=0.9 * verdicts), "tenant-0", "")
        found = await timed(lambda: searches.find(Search(), limit=PAGE, before=deep), times)
        print(f"| everything, a late page | {found[0]:.1f} | {found[1]:.1f} | |")
        days = columns(NOON, every="day", count=90)
        found = await timed(lambda: activity.over_time(by="decision", starts=days, each=STEPS["day"]), times)
        print(f"| 90 days by decision | {found[0]:.1f} | {found[1]:.1f} | |")
        newest, taken = await arrivals.newest()
        found = await timed(lambda: arrivals.after(newest - 200, limit=200, but=taken), times)
        print(f"| one look of the live feed | {found[0]:.1f} | {found[1]:.1f} | |")
    finally:
        await database.close()


def kinds() -> dict[str, Search]:
    """A search of each kind, as moderators ask."""
    return {
        "everything": Search(),
        "one tenant": Search(tenants=("tenant-3",)),
        "a decision that few have": Search(decisions=(Decision.REJECTED,)),
        "a way and a score": Search(paths=(Way.CONSTRAINED_SPG,), score_min=0.995),
        "a score that none has, a tenant": Search(tenants=("tenant-3",), score_min=0.2, score_max=0.2000001),
        "a day": Search(since=NOON - timedelta(hours=30), until=NOON - timedelta(hours=6)),
        "upload id": Search(upload_id="upload-00004711"),
        "upload ids that begin so": Search(upload_id="upload-000047"),
        "file names that begin so": Search(filename="IMG_12"),
        "a file name that none has": Search(filename="nowhere"),
        "sha256": Search(contents=(f"{4711:064x}",)),
        "100 contents": Search(tenants=("tenant-3",), contents=tuple(f"{n:064x}" for n in range(3, 1000, 10))),
        "original": Search(original_id="original-17"),
        "original and decision": Search(original_id="original-17", decisions=(Decision.NO_EVIDENCE,)),
    }


async def timed(ask: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """p50 and p95 in milliseconds, after one that is not counted."""
    await ask()
    taken = []
    for _ in range(times):
        begun = perf_counter()
        await ask()
        taken.append(1000 * (perf_counter() - begun))
    cuts = quantiles(taken, n=20)
    return cuts[9], cuts[18]


async def explained(database: Database, name: str, search: Search) -> None:
    """How PostgreSQL finds a page of them, to stderr."""
    where, query = conditions_of(search)
    statement = f"explain (analyze, buffers, costs off) select tenant, upload_id from verdict {where} " + (
        "order by judged_at desc, tenant desc, upload_id desc limit %(limit)s"
    )
    async with database.connection() as connection:
        rows = await (await connection.execute(statement, query | {"limit": PAGE})).fetchall()
    say(f"\n{name}\n" + "\n".join(row["QUERY PLAN"] for row in rows))


async def fill(database: Database, verdicts: int) -> None:
    """Rows as `Verdicts.project` writes them, ten tenants, one a second up to noon."""
    pattern = VerdictReached(
        tenant="TENANT", upload_id="UPLOAD", decision=Decision.NO_EVIDENCE, path=Way.UNCONSTRAINED, score=0.5,
        reasons=(Reason(code="no_traces", text="No evidence of editing was found. " * 20),), policy_version="default-0",
        uploaded_at=NOON, judged_at=NOON,
    )  # fmt: skip
    query = {"verdicts": verdicts, "event": pattern.to_bytes().decode(), "noon": NOON}
    async with database.alone(timeout_s=1800) as connection:
        await connection.execute(_FILL, query)
        await connection.execute(_FILL_HISTORY)
        await connection.execute("vacuum analyze verdict")
        await connection.execute("vacuum analyze verdict_history")


_FILL = """
insert into verdict (tenant, upload_id, revision, decision, path, score, area, sha256, candidate_id, filename,
                     uploaded_at, judged_at, event)
select 'tenant-' || n %% 10, 'upload-' || lpad(n::text, 8, '0'), 0,
       case when n %% 1000 = 0 then 'rejected' when n %% 10 = 0 then 'manipulated' when n %% 7 = 0 then 'inconclusive'
            else 'no_evidence' end,
       case when n %% 1000 = 0 then 'rejected' when n %% 5 = 0 then 'constrained-spg' else 'unconstrained' end,
       case when n %% 1000 > 0 then random() end, case when n %% 10 = 0 then 0.1 end,
       case when n %% 1000 > 0 then lpad(to_hex(n), 64, '0') end,
       case when n %% 5 = 0 then 'original-' || n %% 2000 end, 'IMG_' || lpad((n %% 9999)::text, 4, '0') || '.jpg',
       %(noon)s::timestamptz - make_interval(secs => %(verdicts)s - n),
       %(noon)s::timestamptz - make_interval(secs => %(verdicts)s - n),
       replace(replace(%(event)s, 'TENANT', 'tenant-' || n %% 10), 'UPLOAD', 'upload-' || lpad(n::text, 8, '0'))
from generate_series(1, %(verdicts)s) as n
"""
_FILL_HISTORY = """
insert into verdict_history (tenant, upload_id, revision, event)
select tenant, upload_id, revision, event from verdict order by judged_at
"""


if __name__ == "__main__":
    sys.exit(main())
