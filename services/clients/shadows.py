"""What challengers said of uploads, in PostgreSQL: recorded by judge, summed up for people.

In: `Shadow`s. Out: `Agreement`s, one for each pair of versions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from services.clients.database import Database
from services.core.judge.shadow import Shadow


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a challenger agrees with a champion: uploads, the share with the same decision, both shares of `manipulated`,
    the mean IoU of what they mark, the mean difference of scores, and the challenger's mean seconds."""

    champion: str
    challenger: str
    uploads: int
    same_decision: float
    champion_manipulated: float
    manipulated: float
    iou: float
    score_difference: float
    seconds: float


class Shadows:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, shadow: Shadow) -> None:
        """Keep what a challenger said; of an upload that comes again, the first word stays."""
        async with self._database.connection() as connection:
            await connection.execute(_ADD, asdict(shadow))

    async def agreement(self) -> list[Agreement]:
        """All of it, the newest challenger first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_AGREEMENT)).fetchall()
        return [Agreement(**row) for row in rows]


_ADD = """
insert into shadow (tenant, upload_id, champion, challenger, champion_score, score, champion_decision, decision, iou,
                    seconds)
values (%(tenant)s, %(upload_id)s, %(champion)s, %(challenger)s, %(champion_score)s, %(score)s, %(champion_decision)s,
        %(decision)s, %(iou)s, %(seconds)s)
on conflict do nothing
"""
_AGREEMENT = """
select champion, challenger, count(*) as uploads,
       avg((decision = champion_decision)::int)::float8 as same_decision,
       avg((champion_decision = 'manipulated')::int)::float8 as champion_manipulated,
       avg((decision = 'manipulated')::int)::float8 as manipulated,
       avg(iou) as iou, avg(score - champion_score) as score_difference, avg(seconds) as seconds
from shadow group by champion, challenger order by max(judged_at) desc
"""
