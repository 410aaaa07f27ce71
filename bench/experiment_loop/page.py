"""The experiment's page: a table of arms, and a figure of what each gained.

In: F1 of each arm on the same pictures. Out: Markdown and SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.experiment_loop.system import Learned
from trainer import metrics
from trainer.tables import Setting

ROUNDS = 4000
WIDTH, ROW, LEFT, TOP = 720, 44, 190, 30
NAMES = {
    "kept": "kept by QES (the loop)",
    "all": "QES off",
    "random": "masks of other pictures",
}


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean F1 of an arm, and its mean difference to the champion with a 95 % interval, by bootstrap over pictures."""

    name: str
    samples: int
    f1: float
    gain: float
    low: float
    high: float


def gains(champion: np.ndarray, arms: Mapping[str, np.ndarray], samples: Mapping[str, int]) -> list[Gain]:
    """Every arm against the champion: F1 of the same pictures, [N] each."""
    found = []
    for name, values in arms.items():
        low, high = metrics.interval(values - champion, rounds=ROUNDS)
        gain = float((values - champion).mean())
        found.append(Gain(name, samples[name], float(values.mean()), gain, low, high))
    return found


def markdown(
    found: Sequence[Gain],
    champion: np.ndarray,
    kinds: tuple[Sequence[str], Sequence[str]],
    said: Learned,
    how: Setting,
    minutes: float,
) -> str:
    """The page. `minutes`: of CPU, all processes together."""
    rows = [
        (
            NAMES[each.name],
            str(each.samples),
            f"{each.f1:.3f}",
            f"{each.gain:+.3f} ({each.low:+.3f} to {each.high:+.3f})",
        )
        for each in found
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""# The loop's own masks as data

Written by `make experiment-loop`. The champion is the single-image network, fitted on generated
{" and ".join(kinds[0])} only. Then forgeries of other kinds ({", ".join(kinds[1])}), made from
photographs that it has not seen, went through the running system with their originals registered. The loop annotated
them by comparison (CAAAv2), kept what is decisive (QES), froze a dataset and refitted the champion on it, half of the
pictures being samples. Each arm had the same steps, seed and generated pictures.

| fitted on | samples | F1 | against the champion (95 %) |
| --- | --- | --- | --- |
| nothing new (champion) | 0 | {champion.mean():.3f} | |
{table}

![What each arm gained](experiment-loop.svg)

{_said(found)}

F1 is of pixels, at the threshold that serves, the mean over {len(champion)} forgeries of the new kinds from photographs
that are in no other part. Every fit was calibrated to flag at most 0.75 % of held-out photographs. Intervals draw
pictures: they say how sure the difference is on such pictures, and not how much it varies with the seed of a fit.
Verdicts: {_counted(said.decisions)}. Annotations: {_counted(said.outcomes)}. Dataset `{said.dataset}`.

`{how.command}`, {how.date}, {how.machine}. {minutes:.0f} minutes of CPU, all processes together.
"""


def figure(found: Sequence[Gain]) -> str:
    """A bar for each arm's gain with its interval, as SVG."""
    reach = max(0.02, *(max(abs(each.low), abs(each.high)) for each in found))
    middle, scale = LEFT + (WIDTH - LEFT) / 2, (WIDTH - LEFT - 40) / 2 / reach
    bottom = TOP + ROW * len(found)
    title = "difference in pixel F1 to the champion, with its 95 % interval"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}"',
        '  font-family="sans-serif" font-size="13">',
        f'<text x="{middle:.0f}" y="18" text-anchor="middle">{title}</text>',
    ]
    for number, each in enumerate(found):
        y = TOP + ROW * number + ROW // 2
        start, end = sorted((middle, middle + each.gain * scale))
        low, high = middle + each.low * scale, middle + each.high * scale
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{NAMES[each.name]}</text>',
            f'<rect x="{start:.1f}" y="{y - 10}" width="{end - start:.1f}" height="20" fill="#7aa6c2"/>',
            f'<path d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10" stroke="#222"/>',
        ]
    lines += [
        f'<path d="M{middle:.1f} {TOP}V{bottom}" stroke="#888"/>',
        f'<text x="{middle:.0f}" y="{bottom + 18}" text-anchor="middle">0</text>',
        f'<text x="{middle + reach * scale:.0f}" y="{bottom + 18}" text-anchor="middle">{reach:+.3f}</text>',
        f'<text x="{middle - reach * scale:.0f}" y="{bottom + 18}" text-anchor="middle">{-reach:+.3f}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _said(found: Sequence[Gain]) -> str:
    """What the loop's own arm shows, in words."""
    loop = next(each for each in found if each.name == "kept")
    if loop.low > 0:
        return "**The loop's masks help**: the whole interval of the arm that has them lies above zero."
    if loop.high < 0:
        return "**The loop's masks do harm here**: the whole interval of the arm that has them lies below zero."
    return (
        "**That the loop's masks help is not shown**: the interval of the arm that has them holds zero. So few samples "
        "and steps move a network little, and more of either is more than an hour of one core."
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
