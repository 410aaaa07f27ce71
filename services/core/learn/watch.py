"""Whether a version that was promoted does worse than what served before: the limits as data, and the word. Pure.

In: how the model server answered and what verdicts said, before and since. Out: the reason to roll back, in words, or
None. Few requests or verdicts say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond which a version is rolled back. See `WatchSettings` for the meaning of each."""

    failures: int = 3
    error_share: float = 0.05
    slower: float = 2.0
    requests: int = 30
    drift: float = 0.15
    verdicts: int = 50


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the model server answered since its start: requests, those with a server's error, seconds for all."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def latency_s(self) -> float:
        """Mean seconds of a request; 0 where there was none."""
        return self.seconds / self.requests if self.requests else 0.0

    def since(self, earlier: Traffic) -> Traffic:
        """What came after an earlier count. A server that was started meanwhile counts from 0."""
        if self.requests < earlier.requests:
            return self
        seconds = self.seconds - earlier.seconds
        return Traffic(self.requests - earlier.requests, self.errors - earlier.errors, seconds)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What verdicts said: how many there were, and of them the shares with a decision and the mean flagged area."""

    count: int
    manipulated: float
    inconclusive: float
    area: float


@dataclass(frozen=True, slots=True)
class Health:
    """How a model does: tries that failed in a row, traffic, decisions."""

    failures: int
    traffic: Traffic
    decisions: Decisions


def trouble(before: Health, since: Health, limits: Limits) -> str | None:
    """Why a version is to be rolled back, if it is."""
    if since.failures >= limits.failures:
        return f"{since.failures} tries in a row got no answer"
    if since.traffic.requests >= limits.requests:
        share = since.traffic.errors / since.traffic.requests
        if share > limits.error_share:
            return f"{share:.0%} of {since.traffic.requests} requests failed; the limit is {limits.error_share:.0%}"
        if (
            before.traffic.requests >= limits.requests
            and since.traffic.latency_s > limits.slower * before.traffic.latency_s
        ):
            return (
                f"a request takes {since.traffic.latency_s:.2f} s, {before.traffic.latency_s:.2f} s before; "
                f"the limit is {limits.slower:g} times"
            )
    if min(before.decisions.count, since.decisions.count) >= limits.verdicts:
        for name in ("manipulated", "inconclusive", "area"):
            was, now = getattr(before.decisions, name), getattr(since.decisions, name)
            if abs(now - was) > limits.drift:
                what = "the mean flagged area" if name == "area" else f"the share of {name}"
                return f"{what} went from {was:.0%} to {now:.0%}; the limit is {limits.drift:.0%} either way"
    return None
