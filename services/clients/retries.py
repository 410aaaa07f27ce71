"""A retry budget: retries may be at most a share of requests, so that retrying never doubles the load of an outage.

In: the count of requests. Out: how long to pause before a retry, or None when the budget is used up. Every request
earns `share` of a retry; what is earned can be saved up to `savings` retries.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class RetryBudget:
    """Retries that are still allowed. `share` is 0..1 retries per request; 0 never retries.

    Pauses double from `first_s` up to `longest_s` seconds, with full jitter (a uniform share of the pause), so that
    clients that failed together do not come back together. `chance` gives numbers in [0, 1).
    """

    def __init__(
        self,
        share: float,
        *,
        savings: float = 10.0,
        first_s: float = 0.1,
        longest_s: float = 2.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._share = share
        self._savings = savings
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._left = 1.0 if share > 0 else 0.0  # a fresh process may retry its first failure

    def request(self) -> None:
        """Count a request that is not itself a retry."""
        self._left = min(self._left + self._share, self._savings)

    def pause(self, retry: int) -> float | None:
        """Seconds to wait before retry number `retry` (from 0), which is paid for here; None if none is left."""
        if self._left < 1.0:
            return None
        self._left -= 1.0
        return self._chance() * min(self._first_s * 2.0**retry, self._longest_s)
