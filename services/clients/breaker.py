"""A circuit breaker: stop asking a dependency that keeps failing, and let one probe find out when it is back.

In: the outcome of every call, and a clock. Out: a permit to call, or `Unavailable` at once with `retry_after_s`.
It exists because a stream that waits out a deadline for each image while the model server is away would stall for
hours; with the circuit open, the stage pauses its partition for exactly as long as the circuit says.

    closed --`failures` in a row--> open --`open_s` later--> half open --probe succeeds--> closed
                                     ^---------------------- probe fails ----'

Only `Unavailable` counts as a failure: a refused image (`Rejected`) or our own bug (`Broken`) is an answer, and a
cancelled call says nothing about the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType

from services.core.errors import Unavailable

PROBE_WAIT_S = 1.0
"""Longest wait that is asked for while a probe is under way: asking here again costs the dependency nothing."""


class Circuit(StrEnum):
    """Where the circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def ignore_change(_circuit: Circuit) -> None:
    """The listener where none was given."""


class Breaker:
    """The circuit to one dependency. One event loop owns it; there are no locks.

    `failures` (>= 1) in a row open it, for `open_s` seconds (> 0). `clock` gives monotonic seconds. `on_change` hears
    of every change of state, for metrics.
    """

    def __init__(
        self,
        dependency: str,
        *,
        failures: int,
        open_s: float,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[Circuit], None] = ignore_change,
    ) -> None:
        self.dependency = dependency
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._on_change = on_change
        self._circuit = Circuit.CLOSED
        self._failed = 0
        self._probe_at = 0.0
        self._probing: Permit | None = None

    @property
    def circuit(self) -> Circuit:
        """The state now; an open circuit whose time is up shows as half open."""
        if self._circuit is Circuit.OPEN and self._clock() >= self._probe_at:
            return Circuit.HALF_OPEN
        return self._circuit

    async def allow(self) -> Permit:
        """Permission for one call: `with await breaker.allow(): ...` records how the call ends.

        Raises Unavailable without waiting while the circuit is open, or while another call is the probe;
        `retry_after_s` says when asking again makes sense.
        """
        circuit = self.circuit
        if circuit is Circuit.CLOSED:
            return Permit(self)
        if circuit is Circuit.OPEN:
            raise self._refusal(self._probe_at - self._clock())
        if self._probing is not None:
            raise self._refusal(min(self._open_s, PROBE_WAIT_S))
        self._become(Circuit.HALF_OPEN)
        self._probing = Permit(self)
        return self._probing

    def _refusal(self, wait_s: float) -> Unavailable:
        text = f"{self.dependency}: not asked, after {self._failed} failures in a row; ask again in {wait_s:.1f} s"
        return Unavailable(self.dependency, text, retry_after_s=max(wait_s, 0.0))

    def _succeeded(self, permit: Permit) -> None:
        if self._circuit is not Circuit.CLOSED and permit is not self._probing:
            return  # a call from before the circuit opened: only the probe may close it
        self._failed = 0
        self._probing = None
        self._become(Circuit.CLOSED)

    def _failed_once(self, permit: Permit) -> None:
        if self._circuit is not Circuit.CLOSED and permit is not self._probing:
            return  # the same late news; it must not prolong the pause
        self._failed += 1
        if permit is self._probing or self._failed >= self._limit:
            self._probing = None
            self._probe_at = self._clock() + self._open_s
            self._become(Circuit.OPEN)

    def _abandoned(self, permit: Permit) -> None:
        if permit is self._probing:
            self._probing = None  # a cancelled probe must not keep the circuit half open for ever

    def _become(self, circuit: Circuit) -> None:
        if circuit is not self._circuit:
            self._circuit = circuit
            self._on_change(circuit)


class Permit:
    """One allowed call, as a context manager that reports how the call ended."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Unavailable):
            self._breaker._failed_once(self)
        elif error is None or isinstance(error, Exception):
            self._breaker._succeeded(self)
        else:
            self._breaker._abandoned(self)
