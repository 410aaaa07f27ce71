"""The page about the single-image path: measured pictures in, Markdown tables out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.single_baselines import BASELINES
from trainer.single_cases import CHANGES, GENERATED, PHOTOGRAPHS
from trainer.single_measures import ALL_FLAGGED, OURS, Measured, Method, baseline, everything, ours
from trainer.tables import AREAS, Setting, bin_name, table

ALARM_SHARE = 0.005  # an authentic picture with more than this share flagged is a false alarm of the mask
TOGETHER = "real together"
GOAL_RATIO, GOAL_KEPT, GOAL_FLAGGED, GOAL_ALARMS = 1.5, 0.85, 0.01, 0.05
WORST = 20

Thresholds = dict[str, float]
Rows = Sequence[Measured]


def page(rows: Rows, thresholds: Thresholds, setting: Setting, digest: str) -> str:
    """The whole page. `thresholds` are the baselines' from calibration; `digest` is of the generated set, or empty."""
    failed = sum(row.failed for row in rows)
    parts = [
        "# The single-image path, measured\n",
        f"Written by `{setting.command}` on {setting.date}: {setting.machine}, model `{setting.version}`, policy "
        f"`{setting.policy}`. `make eval-web-iml` repeats it. Nothing of ours was fitted or tuned on these pictures. "
        "Figures of masks are per forged picture, then averaged; intervals are 95 %, by bootstrap over pictures. "
        f"{failed} analyses failed; they count as empty masks.\n",
        _data(rows, digest),
        _goals(rows, thresholds),
        _pixels(rows, thresholds),
        _after_changes(rows, thresholds),
        _areas(rows, thresholds),
        _edits(rows, thresholds),
        _images(rows),
        _authentic(rows, thresholds),
        _worst(rows),
        _times(rows),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _data(rows: Rows, digest: str) -> str:
    lines = []
    for data in _sets(rows):
        some = _clean(rows, data)
        lines.append((data, str(sum(row.forged for row in some)), str(sum(not row.forged for row in some))))
    frozen = f"The generated set's SHA-256 is `{digest[:16]}`; another one is another set. " if digest else ""
    return "\n".join(
        (
            "## Pictures and methods\n",
            table(("data", "forged", "authentic"), lines),
            f"*{GENERATED}*: from photographs that nothing was fitted on, each forgery with its authentic twin. "
            f"{frozen}*{PHOTOGRAPHS}*: such photographs as they are on disk. Of the real sets, the originals are the "
            f"authentic pictures; *{TOGETHER}* is all of them. *resize .5* halves both sides, *blur 3* is a Gaussian "
            "of 3 x 3 pixels, both without recompression.\n",
            "*Ours* is cut at the policy's threshold. The baselines (`trainer/single_baselines.py`) are handcrafted: "
            "error level analysis at six qualities (Krawetz 2007), noise levels (Mahdian and Saic 2009), votes for "
            "JPEG grids (after ZERO, Nikoukhah et al. 2021). They get the benefit of the doubt: parameters and one "
            "threshold each were chosen for the highest mean F1 on generated forgeries of the calibration split; "
            "Otsu's threshold of each picture is tried as well; and of the two the table has the one that is better "
            f"*on the measured pictures*. *{ALL_FLAGGED}* is the mask that says nothing. *Best F1* is at the one "
            "threshold per set that maximises the mean, *oracle* at the best one of each picture: both are chosen on "
            "the measured pictures and cannot be had in use.\n",
        )
    )


def _goals(rows: Rows, thresholds: Thresholds) -> str:
    lines = []
    if real := _forged(_clean(rows, TOGETHER)):
        mine, best = ours().f1(real), _best_baseline(real, thresholds)
        theirs = best.f1(real)
        ratio, (low, high) = mine.mean() / max(theirs.mean(), 1e-9), metrics.ratio_interval(mine, theirs)
        said = f"{ratio:.2f} ({low:.2f}-{high:.2f}): {_spanned(mine)} against {_spanned(theirs)}, {best.name}"
        lines.append(
            (f"F1 on real forgeries, times the best baseline's, >= {GOAL_RATIO}", said, _met(ratio >= GOAL_RATIO))
        )
    if made := _forged(_clean(rows, GENERATED)):
        after = _forged(_of(rows, GENERATED, "JPEG 80"))
        if after:
            first, second = ours().f1(made), ours().f1(after)
            kept, (low, high) = second.mean() / max(first.mean(), 1e-9), metrics.ratio_interval(second, first)
            said = f"{kept:.0%} ({low:.0%}-{high:.0%})"
            lines.append((f"F1 kept after JPEG 80, generated, >= {GOAL_KEPT:.0%}", said, _met(kept >= GOAL_KEPT)))
    if photos := _clean(rows, PHOTOGRAPHS):
        flagged = ours().flagged(photos)
        low, high = metrics.interval(flagged)
        said = f"{flagged.mean():.2%} ({low:.2%}-{high:.2%})"
        lines.append((f"flagged area of photographs <= {GOAL_FLAGGED:.0%}", said, _met(flagged.mean() <= GOAL_FLAGGED)))
        alarms = np.array([float(row.score >= DEFAULT_POLICY.unconstrained.manipulated_at) for row in photos])
        low, high = metrics.interval(alarms)
        said = f"{alarms.mean():.1%} ({low:.1%}-{high:.1%})"
        lines.append(
            (
                f"photographs whose score reaches the shipped threshold <= {GOAL_ALARMS:.0%}",
                said,
                _met(alarms.mean() <= GOAL_ALARMS),
            )
        )
    return "\n".join(["## Against the goals\n", table(("goal", "measured", "met"), lines)]) if lines else ""


def _pixels(rows: Rows, thresholds: Thresholds) -> str:
    parts = ["## Masks\n"]
    for data in _sets(rows):
        some = _forged(_clean(rows, data))
        if not some:
            continue
        lines = []
        for method in _methods(some, thresholds):
            scores = [method.scores(row) for row in some]
            cells = [
                f"{np.mean([getattr(each, part) for each in scores]):.3f}" for part in ("iou", "precision", "recall")
            ]
            lines.append((method.name, method.cut, _spanned(method.f1(some)), *cells, *_free(method, some)))
        columns = (
            f"{data}, n = {len(some)}",
            "cut at",
            "F1 (95 %)",
            "IoU",
            "precision",
            "recall",
            "best F1 (at)",
            "oracle",
            "pixel AUC",
        )
        parts.append(table(columns, lines))
    return "\n".join(parts) if len(parts) > 1 else ""


def _free(method: Method, rows: Rows) -> tuple[str, str, str]:
    """Best F1, oracle F1 and pixel AUC of a method's soft masks."""
    if method.name == ALL_FLAGGED:
        return "-", "-", "0.500"
    counts = [row.counts[method.name] for row in rows]
    curves = np.stack([metrics.f1_by_level(each) for each in counts])
    threshold, best = metrics.best_threshold(curves)
    auc = np.nanmean([metrics.pixel_auc(each) for each in counts])
    return f"{best:.3f} ({threshold:.2f})", f"{curves[:, 1:].max(axis=1).mean():.3f}", f"{auc:.3f}"


def _after_changes(rows: Rows, thresholds: Thresholds) -> str:
    changes = _changes(rows)
    parts = ["## F1 after recompression, resizing and blur\n"]
    for data in _sets(rows):
        some = _forged(_clean(rows, data))
        if not some or len(changes) < 2:
            continue
        lines = []
        for name in (OURS, *BASELINES):
            means = []
            for change in changes:
                after = _forged(_of(rows, data, change))
                means.append(float((_method(name, after, thresholds)).f1(after).mean()))
            kept = f"{means[changes.index('JPEG 80')] / means[0]:.0%}" if means[0] > 0 and "JPEG 80" in changes else "-"
            lines.append((name, *(f"{mean:.3f}" for mean in means), kept))
        parts.append(table((f"{data}, n = {len(some)}", *changes, "kept at JPEG 80"), lines))
    return "\n".join(parts) if len(parts) > 1 else ""


def _areas(rows: Rows, thresholds: Thresholds) -> str:
    return _grouped("## Masks, by forged area\n", rows, thresholds, "area", _area, _sets(rows))


def _edits(rows: Rows, thresholds: Thresholds) -> str:
    return _grouped("## Generated forgeries, by kind of edit\n", rows, thresholds, "edit", _edit, [GENERATED])


def _area(row: Measured) -> str:
    return bin_name(AREAS, row.area)


def _edit(row: Measured) -> str:
    return row.edit


def _grouped(
    title: str, rows: Rows, thresholds: Thresholds, head: str, group: Callable[[Measured], str], sets: Sequence[str]
) -> str:
    """F1 of every method by a group, a table a set. Baselines are cut as on the whole set."""
    order = [name for _, _, name in AREAS]
    parts = [title]
    for data in sets:
        whole = _forged(_clean(rows, data))
        methods = _methods(whole, thresholds)
        lines = []
        names = sorted(
            {group(row) for row in whole}, key=lambda name: (order.index(name) if name in order else 0, name)
        )
        for name in names:
            some = [row for row in whole if group(row) == name]
            iou = np.mean([methods[0].scores(row).iou for row in some])
            rest = [f"{method.f1(some).mean():.3f}" for method in methods[1:]]
            lines.append((name, str(len(some)), _spanned(methods[0].f1(some)), f"{iou:.3f}", *rest))
        if lines:
            columns = (f"{data}, {head}", "n", "F1 (95 %)", "IoU", *(f"{method.name} F1" for method in methods[1:]))
            parts.append(table(columns, lines))
    return "\n".join(parts) if len(parts) > 1 else ""


def _images(rows: Rows) -> str:
    """Whether whole pictures are told apart."""
    lines = []
    for data in _sets(rows):
        for change in _changes(rows):
            some = _of(rows, data, change)
            truth = np.array([row.forged for row in some], bool)
            if not truth.any() or truth.all():
                continue
            lines.append((data, change, f"{truth.sum()} / {(~truth).sum()}", *_told_apart(some, truth)))
    if not lines:
        return ""
    at = DEFAULT_POLICY.unconstrained
    said = (
        f"Scores decide at {at.manipulated_at} (*manipulated*) and {at.doubtful_at} (a person looks). TPR at 1 % and "
        "5 % FPR are at thresholds chosen on the row's own authentic pictures. The calibration error (ten bins) weighs "
        'both classes alike, since scores mean "at even odds".\n'
    )
    columns = ("data", "change", "forged / authentic", "AUC (95 %)", "TPR at 1 %", "TPR at 5 %", "balanced accuracy")
    more = ("TPR / FPR shipped", "TPR / FPR doubtful", "calibration error")
    return "\n".join(["## Scores\n", said, table((*columns, *more), lines)])


def _told_apart(rows: Rows, truth: np.ndarray) -> tuple[str, ...]:
    scores = np.array([row.score for row in rows])
    groups = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    low, high = metrics.bootstrap(groups, lambda drawn: metrics.auc(scores[drawn], truth[drawn]))
    rates = []
    for threshold in (DEFAULT_POLICY.unconstrained.manipulated_at, DEFAULT_POLICY.unconstrained.doubtful_at):
        above = scores >= threshold
        rates.append((float(above[truth].mean()), float(above[~truth].mean())))
    weights = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
    return (
        f"{metrics.auc(scores, truth):.3f} ({low:.2f}-{high:.2f})",
        f"{metrics.tpr_at_fpr(scores, truth, 0.01):.2f}",
        f"{metrics.tpr_at_fpr(scores, truth, 0.05):.2f}",
        f"{(rates[0][0] + 1.0 - rates[0][1]) / 2.0:.3f}",
        *(f"{hit:.2f} / {alarm:.2f}" for hit, alarm in rates),
        f"{metrics.calibration_error(scores, truth, weights=weights):.3f}",
    )


def _authentic(rows: Rows, thresholds: Thresholds) -> str:
    """What is flagged where nothing is forged. Baselines are cut as on the set's own forgeries, else as calibrated."""
    lines = []
    for data in [each for each in _sets(rows) if each != TOGETHER]:
        for change in _changes(rows):
            some = [row for row in _of(rows, data, change) if not row.forged]
            if not some:
                continue
            flagged = ours().flagged(some)
            low, high = metrics.interval(flagged)
            alarms = f"{(flagged > ALARM_SHARE).mean():.0%}"
            called = f"{np.mean([row.score >= DEFAULT_POLICY.unconstrained.manipulated_at for row in some]):.1%}"
            cut = _methods(_forged(_of(rows, data, change)), thresholds)[1:-1]
            rest = [f"{method.flagged(some).mean():.1%}" for method in cut]
            share = f"{flagged.mean():.2%} ({low:.2%}-{high:.2%})"
            lines.append((data, change, str(len(some)), share, alarms, called, *rest))
    if not lines:
        return ""
    columns = (
        "data",
        "change",
        "n",
        "flagged (95 %)",
        f"more than {ALARM_SHARE:.1%} flagged",
        f"score >= {DEFAULT_POLICY.unconstrained.manipulated_at}",
    )
    heads = [f"{name} flags" for name in BASELINES]
    return "\n".join(["## Authentic pictures\n", table((*columns, *heads), lines)])


def _worst(rows: Rows) -> str:
    parts = [f"## The worst {WORST}\n"]
    for data in (TOGETHER, GENERATED):
        some = sorted(_forged(_clean(rows, data)), key=lambda row: (ours().scores(row).f1, row.name))[:WORST]
        lines = []
        for row in some:
            flagged, best = float(ours().flagged([row])[0]), float(metrics.f1_by_level(row.counts[OURS])[1:].max())
            name = f"{row.data} {row.name}" if data == TOGETHER else row.name
            values = (f"{ours().scores(row).f1:.3f}", f"{best:.3f}", f"{row.score:.2f}")
            lines.append((name, *values, row.edit, f"{row.area:.1%}", f"{flagged:.1%}"))
        if lines:
            parts.append(table((data, "F1", "oracle", "score", "edit", "area", "flagged"), lines))
    return "\n".join(parts) if len(parts) > 1 else ""


def _times(rows: Rows) -> str:
    seconds = np.array([row.seconds for row in rows])
    return f"Median {np.median(seconds):.2f} s a picture, 95th percentile {np.quantile(seconds, 0.95):.2f} s.\n"


def _methods(rows: Rows, thresholds: Thresholds) -> list[Method]:
    """Ours first, then the baselines as they do best on these forgeries, then the trivial one."""
    return [ours(), *(baseline(name, thresholds, rows) for name in BASELINES), everything()]


def _method(name: str, rows: Rows, thresholds: Thresholds) -> Method:
    return ours() if name == OURS else baseline(name, thresholds, rows)


def _best_baseline(rows: Rows, thresholds: Thresholds) -> Method:
    return max(_methods(rows, thresholds)[1:-1], key=lambda method: float(method.f1(rows).mean()))


def _sets(rows: Rows) -> list[str]:
    """Names of the sets: real ones first, with all of them together where there are several."""
    names = list(dict.fromkeys(row.data for row in rows))
    real = [name for name in names if name not in (GENERATED, PHOTOGRAPHS)]
    return [
        *real,
        *([TOGETHER] if len(real) > 1 else []),
        *(name for name in (GENERATED, PHOTOGRAPHS) if name in names),
    ]


def _changes(rows: Rows) -> list[str]:
    return [change for change in CHANGES if any(row.change == change for row in rows)]


def _of(rows: Rows, data: str, change: str) -> list[Measured]:
    real = data == TOGETHER
    return [
        row
        for row in rows
        if row.change == change and (row.data not in (GENERATED, PHOTOGRAPHS) if real else row.data == data)
    ]


def _clean(rows: Rows, data: str) -> list[Measured]:
    return _of(rows, data, "clean")


def _forged(rows: Rows) -> list[Measured]:
    return [row for row in rows if row.forged]


def _spanned(values: metrics.Floats) -> str:
    low, high = metrics.interval(values)
    return f"{values.mean():.3f} ({low:.2f}-{high:.2f})"


def _met(yes: bool | np.bool_) -> str:
    return "yes" if yes else "no"
