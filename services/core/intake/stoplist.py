"""The stop list: pictures that say too little to be a candidate, and what is left of them as one.

In: a hash's quality and how many pictures of the same kind lie near it. Out: why it is stopped, or None. A blank page,
the frame of a meme with another inside, a logo: hundreds of pictures are near each other without being made from each
other. They would take the places of the true original, and geometry would even confirm them by what they share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["flat", "crowded", "manual"]


@dataclass(frozen=True, slots=True)
class StopRules:
    """When a picture is stopped. Distances are Hamming distances of PDQ hashes, 0..256.

    flat_quality: PDQ quality, 0..100, below which a picture is flat: its hash is noise.
    crowd: pictures of the same kind (trusted originals, or earlier uploads) within `crowd_distance` beyond which a
    neighbourhood is crowded; 0 never is. copy_distance: up to here a crowded picture still is a candidate, since copies
    are nearer to their original than the crowd is. A flat one is no candidate but for its very bytes.
    """

    flat_quality: int = 10
    crowd: int = 50
    crowd_distance: int = 72
    copy_distance: int = 31


def why_stopped(quality: int, neighbours: int, rules: StopRules) -> Reason | None:
    """Why a picture goes onto the stop list, None where it does not. `neighbours` counts others of its kind."""
    if quality < rules.flat_quality:
        return "flat"
    if rules.crowd and neighbours > rules.crowd:
        return "crowded"
    return None
