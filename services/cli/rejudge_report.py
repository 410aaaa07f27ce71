"""`pentimento rejudge report`: what a run changed.

In: a run. Out: how many were judged again, what flipped to what, the change of scores, and the uploads that flipped.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, fail, note, settings_of, write_lines, write_table
from services.clients.rejudge_report import Flip, RejudgeReport, Run, Tally
from services.settings import Settings

LISTED = 50


def report(
    run: Annotated[int | None, typer.Option("--run", min=1, help="Which run; without it the newest.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Flipped uploads to list at most.")] = LISTED,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show how many verdicts of a run were judged again, which flipped, and how the scores changed.

    queued: waits for its turn. sent: on its way to judge. revised: has a new verdict. unchanged: was judged again, and
    nothing is new. skipped: the verdict stays, and the reason says why. A change of score is the new one less the old.

    Example: pentimento rejudge report --run 3 --json
    """
    asked, tallies, flips = asyncio.run(_read(settings_of(data), run, limit))
    if as_json:
        write_lines([_summary(asked, tallies), *({"run": asked.id, **asdict(flip)} for flip in flips)])
        return
    again = _again(tallies)
    write_table(("was", "became", "uploads", "mean change of score"), map(_flow_cells, _flows(again)))
    columns = ("tenant", "path", "uploads", "flipped", "mean change of score")
    write_table(columns, map(_part_cells, _parts(again)))
    if flips:
        write_table(("tenant", "was", "became", "score", "upload"), map(_flip_cells, flips))
    states = ", ".join(f"{count} {state}" for state, count in _states(tallies))
    note(f"run {asked.id} of {asked.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, by {', '.join(asked.models)}")
    note(f"{_uploads(again)} judged again, {_flipped(again)} flipped ({states})")


async def _read(settings: Settings, run: int | None, limit: int) -> tuple[Run, list[Tally], list[Flip]]:
    async with opened_database(settings) as database:
        reports = RejudgeReport(database)
        asked = await reports.run(run)
        if asked is None:
            fail(f"there is no run {run or ''}".rstrip() + ": `pentimento rejudge` makes one")
        return asked, await reports.tallies(asked.id), await reports.flips(asked.id, limit=limit)


def _summary(run: Run, tallies: list[Tally]) -> dict[str, Any]:
    again = _again(tallies)
    return {
        "run": run.id,
        "created_at": run.created_at.astimezone(UTC).isoformat(),
        "chosen": run.chosen,
        "models": list(run.models),
        "rate": run.rate,
        "states": dict(_states(tallies)),
        "judged": _uploads(again),
        "flipped": _flipped(again),
        "change": _mean(again),
        "flows": [
            {"was": was, "became": became, "uploads": _uploads(part), "change": _mean(part)}
            for (was, became), part in _flows(again)
        ],
        "parts": [
            {
                "tenant": tenant,
                "path": path,
                "uploads": _uploads(part),
                "flipped": _flipped(part),
                "change": _mean(part),
            }
            for (tenant, path), part in _parts(again)
        ],
    }


Group = tuple[tuple[str, str], list[Tally]]


def _again(tallies: list[Tally]) -> list[Tally]:
    """Those that were judged again."""
    return [each for each in tallies if each.became is not None]


def _flows(tallies: list[Tally]) -> list[Group]:
    return _grouped(tallies, lambda each: (each.decision, each.became or ""))


def _parts(tallies: list[Tally]) -> list[Group]:
    return _grouped(tallies, lambda each: (each.tenant, each.path))


def _grouped(tallies: list[Tally], key: Callable[[Tally], tuple[str, str]]) -> list[Group]:
    groups: dict[tuple[str, str], list[Tally]] = defaultdict(list)
    for each in tallies:
        groups[key(each)].append(each)
    return sorted(groups.items())


def _states(tallies: list[Tally]) -> list[tuple[str, int]]:
    """Uploads by state; skipped ones by `skipped: <reason>`."""
    counts: Counter[str] = Counter()
    for each in tallies:
        counts[each.state if each.reason is None else f"{each.state}: {each.reason}"] += each.uploads
    return counts.most_common()


def _uploads(tallies: Iterable[Tally]) -> int:
    return sum(each.uploads for each in tallies)


def _flipped(tallies: Iterable[Tally]) -> int:
    return _uploads(each for each in tallies if each.became != each.decision)


def _mean(tallies: list[Tally]) -> float | None:
    scored = sum(each.scored for each in tallies)
    return round(sum(each.change for each in tallies) / scored, 4) if scored else None


def _signed(change: float | None) -> str:
    return "" if change is None else f"{change:+.3f}"


def _flow_cells(group: Group) -> tuple[str, ...]:
    return (*group[0], str(_uploads(group[1])), _signed(_mean(group[1])))


def _part_cells(group: Group) -> tuple[str, ...]:
    return (*group[0], str(_uploads(group[1])), str(_flipped(group[1])), _signed(_mean(group[1])))


def _flip_cells(flip: Flip) -> tuple[str, ...]:
    scores = " -> ".join("" if score is None else f"{score:.2f}" for score in (flip.score, flip.new_score))
    return (flip.tenant, flip.decision, flip.became, scores, flip.upload_id)
