"""Which path an upload takes: compared with an original, or looked at alone.

In: an accepted upload with ranked candidates, and the policy. Out: one of three routes. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.events import Candidate, ImageIntaken
from services.core.policy import Policy, chosen


@dataclass(frozen=True, slots=True)
class Identical:
    """The upload has the very bytes of a trusted original: nothing to analyse."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Compare:
    """The constrained path: upload against candidate. `both` asks the unconstrained path as well."""

    candidate: Candidate
    both: bool


@dataclass(frozen=True, slots=True)
class Alone:
    """The unconstrained path: no original was found."""


Route = Identical | Compare | Alone


def route(intake: ImageIntaken, policy: Policy) -> Route:
    """The first of the ranked candidates decides.

    An untrusted candidate (an earlier upload) never proves anything by itself, since either of the two may be the
    edited one: then the unconstrained path looks too. So it does for a small random share, to compare the paths.
    """
    best = next((c for c in intake.candidates if c.overlap >= policy.least_overlap), None)
    if best is None:
        return Alone()
    if best.sha256 == intake.image.sha256:
        return Identical(best) if best.trusted else Alone()
    both = not best.trusted or chosen(f"both/{intake.image.sha256}", policy.both_paths_share)
    return Compare(best, both)
