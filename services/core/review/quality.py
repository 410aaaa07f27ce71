"""How good reviews are, and how much of them a person is to see. Pure.

In: pairs of answers, counts, a random draw. Out: agreement (percent, Cohen's kappa), whether a case with a known answer
is due, whether a day's budget is used up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two agree: `percent` 0..1. `kappa` -1..1 takes out what chance explains; None where that is undefined,
    because both always said one and the same thing."""

    cases: int
    percent: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """What somebody has seen today, and how much that may be; None: no limit."""

    cases: int
    minutes: float
    cases_limit: int | None
    minutes_limit: float | None

    @property
    def used_up(self) -> bool:
        """Whether no further case is to be shown."""
        over_cases = self.cases_limit is not None and self.cases >= self.cases_limit
        return over_cases or (self.minutes_limit is not None and self.minutes >= self.minutes_limit)


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said of a case."""

    person: str
    decision: str


def agreement(answers: Sequence[tuple[str, str]]) -> Agreement:
    """Agreement of pairs of answers to the same cases (J. Cohen, Educational and Psychological Measurement 20, 1960).

    Raises ValueError where there are none.
    """
    if not answers:
        raise ValueError("no case was answered twice")
    total = len(answers)
    observed = sum(first == second for first, second in answers) / total
    firsts, seconds = Counter(first for first, _ in answers), Counter(second for _, second in answers)
    expected = sum(firsts[each] * seconds[each] for each in firsts) / total**2
    return Agreement(total, observed, None if expected == 1.0 else (observed - expected) / (1.0 - expected))


def by_pair(answers: Iterable[tuple[Answer, Answer]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Answers to the same cases, grouped by the two people, whoever of them came first."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for each in answers:
        one, other = sorted(each, key=lambda answer: answer.person)
        pairs.setdefault((one.person, other.person), []).append((one.decision, other.decision))
    return pairs


def due(draw: float, share: float) -> bool:
    """Whether a random draw of 0..1 falls to a share: the next case is one with a known answer."""
    return draw < share
