"""How often an address may be wrong before it has to wait.

In: a request that failed to say who it is. Out: seconds to wait. Whoever comes with a good token is never asked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from starlette.requests import Request

from services.clients.signins import Attempts
from services.web.access import address_of


class Patience:
    """Failures by the address of the connection, which a proxy that the server trusts may set."""

    def __init__(self, attempts: Attempts, now: Callable[[], datetime]) -> None:
        self._attempts = attempts
        self._now = now

    async def wait_s(self, request: Request) -> float:
        """Seconds that this address has to wait; 0 where it may try."""
        return await self._attempts.wait_s(address_of(request), self._now())

    async def failed(self, request: Request) -> bool:
        """Count a failure. Whether it is one of the first, which are worth writing down one by one."""
        return await self._attempts.failed(address_of(request), self._now())
