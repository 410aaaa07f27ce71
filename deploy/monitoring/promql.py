"""What a PromQL expression asks for: the metrics and the labels in it.

In: an expression, of a rule or of a Grafana panel (`$__rate_interval` included). Out: names. It is no parser: it reads
tokens, and refuses what it does not know (a function, a bracket that is not closed), so that a misspelt name cannot
pass for a metric. promtool, where it is there, reads the same expressions for real.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

AGGREGATIONS = {"sum", "min", "max", "avg", "count", "group", "topk", "bottomk", "quantile"}
FUNCTIONS = {
    *("rate", "irate", "increase", "delta", "deriv", "changes", "resets", "histogram_quantile", "abs", "vector"),
    *("scalar", "time", "absent", "clamp_min", "clamp_max", "avg_over_time", "max_over_time", "min_over_time"),
}
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", *GROUPING}
CLOSING = {")": "(", "]": "[", "}": "{"}

TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<variable>\$(?:__)?[a-z_]+)
      | (?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)
      | (?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^<>=,:])
      | (?P<open>[([{])
      | (?P<close>[)\]}])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Names:
    """The metrics of an expression, and the labels that it matches or groups by."""

    metrics: frozenset[str]
    labels: frozenset[str]


def names(expression: str) -> Names:
    """The names in an expression. Raises ValueError where it cannot be PromQL."""
    metrics: set[str] = set()
    labels: set[str] = set()
    tokens = _tokens(expression)
    opened: list[tuple[str, bool]] = []  # each bracket, and whether names in it are labels
    for at, (kind, text) in enumerate(tokens):
        before = tokens[at - 1][1] if at else ""
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        match kind:
            case "open":
                opened.append((text, text == "{" or (text == "(" and before in GROUPING)))
            case "close":
                if not opened or opened.pop()[0] != CLOSING[text]:
                    raise ValueError(f"{text} closes nothing in: {expression}")
            case "name" if opened and opened[-1][1]:
                labels.add(text)
            case "name" if text in WORDS:
                pass
            case "name" if after == "(" or text in AGGREGATIONS:
                if text not in AGGREGATIONS and text not in FUNCTIONS:
                    raise ValueError(f"unknown function {text} in: {expression}")
            case "name":
                metrics.add(text)
    if opened:
        raise ValueError(f"{opened[-1][0]} is not closed in: {expression}")
    return Names(frozenset(metrics), frozenset(labels))


def _tokens(expression: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    text = expression.rstrip()
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None or token.lastgroup is None:
            raise ValueError(f"{text[at : at + 20]!r} is no PromQL in: {expression}")
        found.append((token.lastgroup, token.group(token.lastgroup)))
        at = token.end()
    return found
