"""A round of the learning loop, step after step, from wherever it stands to its end.

In: a round, and what does each step. Out: the round, decided. What a step brought is written down together with the
step that follows; a process that dies in between does its step again, so that every step must be one that may be
repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from services.clients.rounds import Rounds, Still
from services.core.learn.rounds import Done, Round, Step

Work = Callable[[Round], Awaitable[Done]]
Moment = Literal["begins", "is done"]
Tell = Callable[[Round, Moment], None]


async def carried_on(rounds: Rounds, at: Round, works: Mapping[Step, Work], *, still: Still, tell: Tell) -> Round:
    """The round at its end. `tell` hears of every step, before it begins and when it is done but not yet written down.

    Raises what the steps raise, and Unavailable where the loop's lock was lost: the next run goes on.
    """
    while at.finished_at is None:
        await still()
        tell(at, "begins")
        done = await works[at.step](at)
        await still()
        tell(at, "is done")
        at = await rounds.record(at, done)
    return at
