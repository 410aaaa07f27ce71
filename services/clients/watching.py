"""How a model does, for the watch: TorchServe's counters, and what verdicts said in a span of time.

In: the address of TorchServe's metrics; a path of verdicts and times. Out: `Traffic` since the server's start,
`Decisions`. TorchServe counts a model's requests and their time, but errors of all models together.
"""

from __future__ import annotations

import re
import time
from datetime import datetime

from services.clients.calling import Answer, Bearer, Caller, Limits, Watch
from services.clients.database import Database
from services.core.errors import Unavailable
from services.core.events import Path
from services.core.learn.watch import Decisions, Traffic

DEPENDENCY = "serving"
PATHS = {"constrained": (Path.CONSTRAINED_SPG, Path.CONSTRAINED_SDG), "unconstrained": (Path.UNCONSTRAINED,)}
"""Which verdicts a model decides."""

_LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)


class Counters:
    """TorchServe's metrics at `url`. Raises Unavailable."""

    def __init__(self, url: str) -> None:
        bearer = Bearer(DEPENDENCY)
        self._caller = Caller(
            url, dependency=DEPENDENCY, limits=Limits(), bearer=bearer, watch=Watch(), clock=time.monotonic
        )

    async def traffic(self, model: str) -> Traffic:
        """What the server answered since its start."""
        return await self._caller.probe(self._caller.request("GET", ""), lambda answer: _traffic(answer, model))

    async def close(self) -> None:
        """Close all connections."""
        await self._caller.close()


class VerdictShares:
    """What verdicts said. Raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def before(self, model: str, until: datetime, *, most: int) -> Decisions:
        """Of the newest verdicts that a model decided up to a time."""
        return await self._decisions(_BEFORE, model, until, most)

    async def since(self, model: str, start: datetime, *, most: int) -> Decisions:
        """Of the newest verdicts that a model decided after a time."""
        return await self._decisions(_SINCE, model, start, most)

    async def _decisions(self, statement: str, model: str, at: datetime, most: int) -> Decisions:
        query = {"paths": [path.value for path in PATHS.get(model, ())], "at": at, "most": most}
        async with self._database.connection() as connection:
            row = await (await connection.execute(statement, query)).fetchone()
        return Decisions(**row) if row else Decisions(0, 0.0, 0.0, 0.0)


_SHARES = """
select count(*) as count,
       coalesce(avg((decision = 'manipulated')::int), 0)::float8 as manipulated,
       coalesce(avg((decision = 'inconclusive')::int), 0)::float8 as inconclusive,
       coalesce(avg(area), 0)::float8 as area
from (select decision, area from verdict where path = any(%(paths)s) and judged_at {} %(at)s
      order by judged_at desc limit %(most)s) as newest
"""
_BEFORE, _SINCE = _SHARES.format("<="), _SHARES.format(">")


def _traffic(answer: Answer, model: str) -> Traffic:
    if answer.status != 200:
        raise Unavailable(DEPENDENCY, f"TorchServe's metrics answered {answer.status}: {answer.start}")
    found = list(_LINE.finditer(answer.body.decode(errors="replace")))

    def total(name: str, label: str) -> float:
        return sum(float(line["value"]) for line in found if line["name"] == name and label in line["labels"])

    mine = f'model_name="{model}"'
    seconds = total("ts_inference_latency_microseconds", mine) / 1e6
    return Traffic(round(total("ts_inference_requests_total", mine)), round(total("Requests5XX", "")), seconds)
