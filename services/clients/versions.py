"""Which version of each model serves now, learned from every answer and asked for only when the last is too old.

In: a way to ask for one model's version. Out: all versions, fresh within a time to live. A verdict may be reused only
if the models that reached it would still judge; asking the server for each upload would put a request per duplicate
into the queue that duplicates exist to avoid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.core.events import ModelVersion


class Versions:
    """The versions of the models called `names`. `ask(name)` asks the server, `clock` gives monotonic seconds."""

    def __init__(
        self,
        names: tuple[str, ...],
        ask: Callable[[str], Awaitable[ModelVersion]],
        *,
        ttl_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._names = names
        self._ask = ask
        self._ttl_s = ttl_s
        self._clock = clock
        self._known: dict[str, tuple[ModelVersion, float]] = {}
        self._asking: asyncio.Task[None] | None = None

    def learn(self, model: ModelVersion) -> None:
        """A model said which version it is."""
        self._known[model.name] = (model, self._clock())

    async def current(self) -> tuple[ModelVersion, ...]:
        """One version per name, in order. Those who ask at the same time share one request, and its error."""
        if any(self._stale(name) for name in self._names):
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._refresh())
                self._asking.add_done_callback(_retrieve)
            await asyncio.shield(self._asking)  # a caller that is cancelled must not take the answer from the others
        return tuple(self._known[name][0] for name in self._names)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _stale(self, name: str) -> bool:
        return name not in self._known or self._clock() - self._known[name][1] >= self._ttl_s

    async def _refresh(self) -> None:
        for name in self._names:
            if self._stale(name):
                self.learn(await self._ask(name))


def _retrieve(task: asyncio.Task[None]) -> None:
    """Fetch the error of a request whose callers all left, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
