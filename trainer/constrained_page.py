"""The page about the constrained path: measured pairs in, Markdown tables out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.pair_cases import worst
from trainer.tables import AREAS, Setting, bin_name, table

if TYPE_CHECKING:
    from trainer.evaluate_constrained import Measured

TEXTURES = (
    (0.0, 2.0, "smooth: sky, wall, fog (< 2 grey levels)"),
    (2.0, 4.0, "little (2-4)"),
    (4.0, 256.0, "textured (>= 4)"),
)
THRESHOLDS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
GOOD = 0.5  # IoU from which on a mask counts as right where precision is given
KINDS = ("spg", "sdg", "unrelated")


def page(rows: Sequence[Measured], setting: Setting) -> str:
    """The whole page."""
    forged = [row for row in rows if not row.unedited and row.kind != "unrelated"]
    parts = [
        "# The constrained path, measured\n",
        f"Written by `{setting.command}` on {setting.date}: {setting.machine}, model `{setting.version}`, policy "
        f"`{setting.policy}`. `make eval-constrained` repeats it. Nothing was fitted or tuned on these pairs. "
        f"Masks are cut at {DEFAULT_POLICY.mask_threshold}; figures are per forged picture, then averaged; "
        "intervals are 95 %, by bootstrap.\n",
        "## Against the baselines\n",
        "*Plain* is blurred |difference| with Otsu's threshold, the original resized to the upload; *aligned* the same "
        "after SIFT and MAGSAC. What no alignment was found for counts as an empty mask.\n",
        _by(forged, _set, "pairs"),
        _objects(forged),
        _broken_down(forged),
        _kinds([row for row in rows if row.kind is not None]),
        _copies([row for row in rows if row.unedited]),
        _qes(forged),
        _worst(forged),
        _times(rows),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _set(row: Measured) -> str:
    return row.data if row.data != "generated" else f"generated {str(row.kind).upper()}"


def _by(rows: Sequence[Measured], group: Callable[[Measured], str], head: str) -> str:
    """A table of IoU and F1, ours and the baselines', by a group."""
    lines = []
    for name in sorted({group(row) for row in rows}):
        some = [row for row in rows if group(row) == name]
        iou = np.array([row.iou for row in some])
        low, high = metrics.interval(iou)
        cells = [f"**{iou.mean():.3f}** ({low:.2f}-{high:.2f})", f"{np.median(iou):.3f}"]
        cells += [f"{np.mean([getattr(row, part) for row in some]):.3f}" for part in ("f1", "precision", "recall")]
        cells += [f"{np.mean([getattr(row, part) for row in some]):.3f}" for part in ("aligned_iou", "plain_iou")]
        lines.append((name, str(len(some)), *cells))
    columns = (head, "n", "IoU (95 %)", "median", "F1", "precision", "recall", "aligned IoU", "plain IoU")
    return table(columns, lines)


def _broken_down(rows: Sequence[Measured]) -> str:
    made = [row for row in rows if row.data == "generated" and row.kind == "spg"]
    real = [row for row in rows if row.data != "generated"]
    parts = []
    if made:
        parts += ["## Generated edits in place, by kind of edit\n", _by(made, lambda row: row.edit, "edit")]
        parts += ["## ... by what happened to one side as a whole\n", _by(made, lambda row: row.change, "change")]
        parts += ["## ... by area\n", _by(made, _area, "area")]
    if real:
        parts += ["## Real pairs, by area\n", _by(real, lambda row: f"{row.data} {_area(row)}", "area")]
    return "\n".join(parts)


def _objects(rows: Sequence[Measured]) -> str:
    objects = [row for row in rows if row.original_iou is not None]
    if not objects:
        return ""
    taken = np.mean([row.original_iou for row in objects])
    lines = []
    for _, _, name in TEXTURES:
        if some := [row for row in objects if _texture(row) == name]:
            known = np.mean([row.found == row.kind for row in some])
            lines.append((name, str(len(some)), f"{known:.0%}", f"{np.mean([row.iou for row in some]):.3f}"))
    return "\n".join(
        (
            f"The pasted object in the *original*, where it was taken from: mean IoU {taken:.3f}.\n",
            "## Pasted objects, by the texture that they have\n",
            "Whatever is cut out counts as an object above, a piece of clear sky as well.\n",
            table(("texture", "n", "found", "IoU"), lines),
        )
    )


def _texture(row: Measured) -> str:
    return bin_name(TEXTURES, row.texture)


def _area(row: Measured) -> str:
    return bin_name(AREAS, row.area)


def _kinds(rows: Sequence[Measured]) -> str:
    if not rows:
        return ""
    counts = Counter((str(row.kind), row.found) for row in rows)
    right = np.array([float(row.kind == row.found) for row in rows])
    low, high = metrics.interval(right)
    lines = [
        (kind, *(str(counts[kind, found]) for found in KINDS))
        for kind in KINDS
        if any(counts[kind, found] for found in KINDS)
    ]
    said = f"Accuracy {right.mean():.3f} ({low:.3f}-{high:.3f}) of {len(rows)} pairs whose kind is known.\n"
    return "\n".join(["## Kinds of pairs\n", said, table(("truth", *(f"found {kind}" for kind in KINDS)), lines)])


def _copies(rows: Sequence[Measured]) -> str:
    if not rows:
        return ""
    lines = []
    groups = sorted({(_set(row), row.change) for row in rows})
    for data, change in [*groups, ("all", "all")]:
        some = [row for row in rows if data == "all" or (_set(row), row.change) == (data, change)]
        share = {word: np.mean([row.decision == word for row in some]) for word in _DECISIONS}
        flagged = f"{np.mean([row.flagged for row in some]):.3%}"
        plain = f"{np.mean([row.aligned_flagged for row in some]):.1%}"
        lines.append((data, change, str(len(some)), flagged, plain, *(f"{value:.0%}" for value in share.values())))
    columns = ("data", "change", "n", "flagged", "aligned baseline flags", *_DECISIONS)
    return "\n".join(["## Unedited copies\n", table(columns, lines)])


_DECISIONS = ("no_evidence", "inconclusive", "manipulated", "unrelated")


def _qes(rows: Sequence[Measured]) -> str:
    scores, iou = np.array([row.qes for row in rows]), np.array([row.iou for row in rows])
    if len(rows) < 2:
        return ""
    lines = []
    for level in THRESHOLDS:
        kept = scores > level
        dropped = f"{iou[~kept].mean():.3f}" if (~kept).any() else "-"
        inside = f"{iou[kept].mean():.3f}" if kept.any() else "-"
        right = f"{(iou[kept] >= GOOD).mean():.3f}" if kept.any() else "-"
        lines.append((f"{level}", f"{kept.mean():.0%}", inside, dropped, right))
    columns = ("QES >", "kept", "IoU of the kept", "IoU of the dropped", f"precision (IoU >= {GOOD})")
    agreement = metrics.rank_correlation(scores, iou)
    said = f"Rank correlation of QES with IoU (Spearman): {agreement:.3f}, {len(rows)} pairs.\n"
    return "\n".join(["## QES\n", said, table(columns, lines)])


def _worst(rows: Sequence[Measured]) -> str:
    parts = ["## The worst ten\n"]
    for data in sorted({row.data for row in rows}):
        some = [row for row in rows if row.data == data]
        by_name = {row.name: row for row in some}
        lines = []
        for name, iou in worst([row.name for row in some], [row.iou for row in some]):
            row = by_name[name]
            lines.append((name, f"{iou:.3f}", row.found, row.edit, row.change, f"{row.area:.1%}", f"{row.flagged:.1%}"))
        columns = (data, "IoU", "found", "edit", "change", "area", "flagged")
        parts.append(table(columns, lines))
    return "\n".join(parts)


def _times(rows: Iterable[Measured]) -> str:
    seconds = np.array([row.seconds for row in rows])
    return f"Median {np.median(seconds):.2f} s a pair, 95th percentile {np.quantile(seconds, 0.95):.2f} s.\n"
