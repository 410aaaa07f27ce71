"""robots.txt: what a host asks programs to leave alone.

In: the bytes of a robots.txt and the name we go by. Out: `Rules`. As RFC 9309 has it: the groups that name us, else
those of `*`; the longest matching rule decides, and `Allow` where two are as long; `*` and `$` in paths. Written anew
because `urllib.robotparser` takes the first rule that fits instead, and knows neither `*` nor `$`: it would fetch what
`Disallow: /*.jpg$` forbids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

MOST_BYTES = 512_000
"""Bytes of a robots.txt that are read; the RFC asks for 500 KiB at least."""

_SAFE = "%/?&=:;@!$'()*+,~"
_ENCODED = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


@dataclass(frozen=True, slots=True)
class Rule:
    """Paths that are allowed or not: those that begin with `pieces`, with anything between two of them, and `ends`
    says whether the last one must end the path. `length` is the octets of the pattern."""

    pieces: tuple[str, ...]
    ends: bool
    length: int
    allows: bool

    def fits(self, path: str) -> bool:
        """Whether the rule is about a path. In linear time, whatever a hostile host writes."""
        *begin, last = self.pieces
        at = 0
        for number, piece in enumerate(begin):
            found = path.find(piece, at)
            if found < 0 or (number == 0 and found > 0):
                return False
            at = found + len(piece)
        if not begin:
            return path == last if self.ends else path.startswith(last)
        return path.endswith(last) and len(path) - len(last) >= at if self.ends else path.find(last, at) >= 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What one host asks of us. `delay_s` is between two requests, where it names one (not in the RFC, but common)."""

    rules: tuple[Rule, ...] = ()
    delay_s: float = 0.0

    def allow(self, url: str) -> bool:
        """Whether the URL of this host may be fetched."""
        parts = urlsplit(url)
        path = _normal((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        fitting = [rule for rule in self.rules if rule.fits(path)]
        return path == "/robots.txt" or not fitting or max(fitting, key=lambda rule: (rule.length, rule.allows)).allows


EVERYTHING = Rules()
"""The rules of a host that has no robots.txt."""


def rules(data: bytes, product: str) -> Rules:
    """The rules for a program that calls itself `product`, e.g. `pentimento`. What cannot be read is passed over."""
    groups: dict[str, tuple[list[Rule], list[float]]] = {}
    agents: list[str] = []
    in_rules = False
    for name, value in _lines(data[:MOST_BYTES]):
        if name == "user-agent":
            agents = [] if in_rules else agents
            in_rules = False
            agents.append("*" if value == "*" else re.split(r"[^a-z_-]", value.lower())[0])
            groups.setdefault(agents[-1], ([], []))
            continue
        if name not in ("allow", "disallow", "crawl-delay"):
            continue
        in_rules = True
        for agent in agents:
            if name == "crawl-delay":
                groups[agent][1].extend(_delay(value))
            elif value:
                groups[agent][0].append(_rule(value, name == "allow"))
    found, delays = groups.get(product.lower()) or groups.get("*") or ([], [])
    return Rules(tuple(found), max(delays, default=0.0))


def _lines(data: bytes) -> list[tuple[str, str]]:
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff")
    pairs = [line.split("#", 1)[0].partition(":") for line in re.split(r"\r\n|\r|\n", text)]
    return [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]


def _rule(path: str, allows: bool) -> Rule:
    normal = _normal(path)
    return Rule(tuple(normal.removesuffix("$").split("*")), normal.endswith("$"), len(normal), allows)


def _normal(path: str) -> str:
    """The path with each character encoded in the one way, so that rule and URL can be compared."""

    def one(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if _UNRESERVED.fullmatch(character) else found[0].upper()

    return _ENCODED.sub(one, quote(path, safe=_SAFE))


def _delay(value: str) -> list[float]:
    return [float(value)] if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value) else []
