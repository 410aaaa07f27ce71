"""A token bucket: so many requests a second on average, some more at once after a time of silence.

In: a bucket, the time, a pace. Out: the bucket afterwards, and whether the request fits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`per_s` requests a second; `burst` of them at once at most, at least one."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left at a moment, in requests; `at_s` is any steady clock's."""

    left: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A request's bucket afterwards. `fits`: it may be served; else it would after `wait_s`. `full_s`: seconds until
    the bucket is full again."""

    bucket: Bucket
    fits: bool
    wait_s: float
    full_s: float


def full(pace: Pace, now_s: float) -> Bucket:
    """The bucket of somebody who has not asked for long."""
    return Bucket(pace.burst, now_s)


def take(bucket: Bucket, pace: Pace, now_s: float) -> Taken:
    """One request. What does not fit takes nothing."""
    left = min(pace.burst, bucket.left + max(0.0, now_s - bucket.at_s) * pace.per_s)
    fits = left >= 1.0
    after = left - 1.0 if fits else left
    wait = 0.0 if fits else (1.0 - left) / pace.per_s
    return Taken(Bucket(after, now_s), fits, wait, (pace.burst - after) / pace.per_s)
