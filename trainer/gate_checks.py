"""Whether a challenger may take the champion's place: the rules as data, and what each of them says. Pure.

In: of each picture what both models made of it (`Compared`), and the sizes of their files. Out: `Check`s with reasons
in words; the challenger passes where all of them do. What could not be measured is not passed.

Differences are the challenger's value minus the champion's on the same picture; intervals draw pictures (paired
bootstrap). Of many groups one looks worse by chance alone, so that their intervals share one error (Bonferroni).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb

import numpy as np

from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.tables import AREAS, Setting, bin_name

CLEAN = "clean"
ROUNDS = 4000


@dataclass(frozen=True, slots=True)
class Rules:
    """What a challenger must keep to, each with its reason."""

    least_gain: float = 0.0  # mean difference in F1: a change that gains nothing is not worth its risk
    most_loss_f1: float = 0.01  # the interval's lower end must be above minus this: not worse, within what shows
    most_loss_auc: float = 0.02  # the same of the AUC of scores, which fewer pictures measure
    least_pictures: int = 20  # of a group: fewer say too little about it
    most_flagged: float = 0.01  # mean flagged share of authentic pictures, as `trainer.budget` has it
    most_alarms: float = 0.01  # authentic pictures called manipulated: what the policy's threshold stands for
    most_doubtful: float = 0.05  # authentic pictures that a person must look at: the same
    alarm_error: float = (
        0.05  # chance to refuse a challenger that keeps to the two, for which few pictures are to blame
    )
    most_time: float = 1.25  # times the champion's seconds a picture
    most_size: float = 1.2  # times the champion's bytes: archives are loaded by every worker


@dataclass(frozen=True, slots=True)
class Look:
    """What one model made of a picture: F1 of its mask (NaN of an authentic one), the share it flags, its score, all
    0..1; `failed` where it gave no answer, which counts as an empty mask and a score of 0."""

    f1: float
    flagged: float
    score: float
    seconds: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """A picture after a change, looked at by both models. `area` is its forged share."""

    name: str
    data: str
    edit: str
    change: str
    forged: bool
    area: float
    champion: Look
    challenger: Look

    @property
    def gain(self) -> float:
        """The difference in F1."""
        return self.challenger.f1 - self.champion.f1


@dataclass(frozen=True, slots=True)
class Check:
    """What one rule says."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """Forged pictures of one kind: their mean F1 by both models, and the mean difference with its interval."""

    kind: str
    name: str
    count: int
    champion: float
    challenger: float
    gain: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the challenger is worse by more than chance explains."""
        return self.high < 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict with all that led to it. `pictures_sha256` says whether it was reached on the same pictures."""

    passed: bool
    checks: tuple[Check, ...]
    rules: Rules
    champion: str
    challenger: str
    pictures_sha256: str
    setting: Setting
    rows: tuple[Compared, ...]

    @property
    def verdict(self) -> str:
        """In one word."""
        return "pass" if self.passed else "refuse"

    def to_json(self) -> str:
        """For machines; what is not a number is null."""
        values = {"verdict": self.verdict} | asdict(self)
        values["groups"] = [asdict(group) for group in groups(self.rows, self.rules)]
        return json.dumps(_finite(values), indent=1, allow_nan=False)


def checks(rows: Sequence[Compared], sizes: tuple[int, int], rules: Rules) -> list[Check]:
    """Every check. `sizes` are the bytes of champion and challenger."""
    clean = [row for row in rows if row.change == CLEAN]
    return [
        _masks([row for row in clean if row.forged], rules),
        _scores(clean, rules),
        _groups(rows, rules),
        *_budget([row.challenger for row in clean if not row.forged], rules),
        _failures(rows),
        _time(rows, rules),
        _size(sizes, rules),
    ]


def groups(rows: Sequence[Compared], rules: Rules) -> list[Group]:
    """Forgeries by kind of edit, forged area and set, as they are, and all of them by change; the large enough ones."""
    kinds: tuple[tuple[str, Callable[[Compared], str]], ...] = (
        ("edit", lambda row: row.edit),
        ("area", lambda row: bin_name(AREAS, row.area)),
        ("set", lambda row: row.data),
        ("change", lambda row: row.change),
    )
    found: dict[tuple[str, str], list[Compared]] = {}
    for row in rows:
        for kind, name_of in kinds:
            if row.forged and (row.change == CLEAN or kind == "change"):
                found.setdefault((kind, name_of(row)), []).append(row)
    large = {key: some for key, some in found.items() if len(some) >= rules.least_pictures}
    tail = 0.025 / max(1, len(large))
    return [_group(*key, some, tail) for key, some in large.items()]


def both(rows: Sequence[Compared], value: Callable[[Look], float]) -> tuple[metrics.Floats, metrics.Floats]:
    """A value of each picture by champion and challenger, [N] each."""
    return np.array([value(row.champion) for row in rows]), np.array([value(row.challenger) for row in rows])


def _group(kind: str, name: str, rows: Sequence[Compared], tail: float) -> Group:
    gains = np.array([row.gain for row in rows])
    low, high = metrics.interval(gains, rounds=ROUNDS, tail=tail)
    champion, challenger = (float(np.mean(values)) for values in both(rows, lambda look: look.f1))
    return Group(kind, name, len(rows), champion, challenger, float(gains.mean()), low, high)


def _masks(forged: Sequence[Compared], rules: Rules) -> Check:
    if not forged:
        return Check("masks", False, "no forged pictures: give --set or --photos")
    all_of_them = _group("", "", forged, 0.025)
    passed = all_of_them.gain >= rules.least_gain and all_of_them.low > -rules.most_loss_f1
    return Check(
        "masks",
        passed,
        f"F1 {all_of_them.champion:.3f} -> {all_of_them.challenger:.3f}, {all_of_them.gain:+.3f} "
        f"({all_of_them.low:+.3f} to {all_of_them.high:+.3f}) on {len(forged)} forged pictures; must gain at least "
        f"{rules.least_gain:+.3f}, and certainly lose no more than {rules.most_loss_f1:.3f}",
    )


def _scores(rows: Sequence[Compared], rules: Rules) -> Check:
    truth = np.array([row.forged for row in rows], bool)
    if not truth.any() or truth.all():
        return Check("scores", False, "needs forged and authentic pictures: give --set with originals, or --photos")
    theirs, ours = both(rows, lambda look: look.score)

    def gain(drawn: np.ndarray) -> float:
        return metrics.auc(ours[drawn], truth[drawn]) - metrics.auc(theirs[drawn], truth[drawn])

    low, high = metrics.bootstrap([np.flatnonzero(truth), np.flatnonzero(~truth)], gain)
    return Check(
        "scores",
        low > -rules.most_loss_auc,
        f"AUC {metrics.auc(theirs, truth):.3f} -> {metrics.auc(ours, truth):.3f} ({low:+.3f} to {high:+.3f}) on "
        f"{truth.sum()} forged and {(~truth).sum()} authentic pictures; must certainly lose no more than "
        f"{rules.most_loss_auc:.3f}",
    )


def _groups(rows: Sequence[Compared], rules: Rules) -> Check:
    found = groups(rows, rules)
    if worse := [group for group in found if group.worse]:
        named = ", ".join(f"{group.kind} {group.name} ({group.gain:+.3f}, n = {group.count})" for group in worse)
        return Check("groups", False, f"certainly worse on {named}")
    return Check("groups", True, f"certainly worse on none of {len(found)} groups of {rules.least_pictures} or more")


def _budget(authentic: Sequence[Look], rules: Rules) -> list[Check]:
    if not authentic:
        missing = "no authentic pictures: give --photos, or --set with originals"
        return [Check(name, False, missing) for name in ("flagged", "alarms", "doubtful")]
    flagged = float(np.mean([look.flagged for look in authentic]))
    scores = np.array([look.score for look in authentic])
    policy = DEFAULT_POLICY.unconstrained
    said = f"flags {flagged:.2%} of {len(authentic)} authentic pictures; at most {rules.most_flagged:.0%}"
    return [
        Check("flagged", flagged <= rules.most_flagged, said),
        _within("alarms", scores, policy.manipulated_at, rules.most_alarms, rules),
        _within("doubtful", scores, policy.doubtful_at, rules.most_doubtful, rules),
    ]


def _within(name: str, scores: metrics.Floats, threshold: float, share: float, rules: Rules) -> Check:
    """Whether no more scores reach a threshold than a share of them explains (exact binomial test)."""
    count, above = len(scores), int((scores >= threshold).sum())
    chance = at_least(above, count, share)
    said = f"{above} of {count} authentic pictures score {threshold:g} or more; the budget is {share:.0%}"
    return Check(name, chance >= rules.alarm_error, f"{said}, by which so many have a chance of {chance:.2g}")


def at_least(successes: int, trials: int, share: float) -> float:
    """The chance of at least so many successes where each trial has the chance `share`."""
    fewer = sum(comb(trials, k) * share**k * (1.0 - share) ** (trials - k) for k in range(successes))
    return max(0.0, 1.0 - fewer)


def _failures(rows: Sequence[Compared]) -> Check:
    new = [row.name for row in rows if row.challenger.failed and not row.champion.failed]
    named = f": {', '.join(new[:5])}" if new else ""
    return Check("failures", not new, f"fails on {len(new)} pictures that the champion answers{named}")


def _time(rows: Sequence[Compared], rules: Rules) -> Check:
    ratios = [
        row.challenger.seconds / row.champion.seconds
        for row in rows
        if not row.challenger.failed and row.champion.seconds > 0.0
    ]
    if not ratios:
        return Check("time", False, "no picture was answered by both")
    ratio = float(np.median(ratios))
    seconds = float(np.median([row.challenger.seconds for row in rows]))
    said = f"{ratio:.2f} times the champion's time, {seconds:.2f} s a picture (medians, side by side)"
    return Check("time", ratio <= rules.most_time, f"{said}; at most {rules.most_time:g} times")


def _size(sizes: tuple[int, int], rules: Rules) -> Check:
    ratio = sizes[1] / sizes[0]
    said = f"{sizes[1] / 1e6:.2f} MB, {ratio:.2f} times the champion's; at most {rules.most_size:g} times"
    return Check("size", ratio <= rules.most_size, said)


def _finite(value: object) -> object:
    """The same with null for NaN, which JSON does not have."""
    match value:
        case dict():
            return {name: _finite(each) for name, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float():
            return value if np.isfinite(value) else None
        case _:
            return value
