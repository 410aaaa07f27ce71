"""The learning rate over a fit: a pure function of how far it is."""

from __future__ import annotations


def rate(progress: float, step: int, *, peak: float, warmup_steps: int, power: float = 0.9) -> float:
    """The learning rate: linear from 0 over `warmup_steps`, then the "poly" fall (1 - progress)^power to 0.

    `progress` is the share of the fit that is done, 0..1 (clipped); `step` counts from 0.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    left = 1.0 - min(1.0, max(0.0, progress))
    return float(peak * warm * left**power)
