"""Forgeries through the running system: Kafka, TorchServe and PostgreSQL, then the loop's own commands.

In: forgeries with their originals, a stack's settings. Out: what was annotated, and a frozen dataset version.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.experiment_loop.forgeries import Forgery
from services.cli.connections import opened_database, opened_door
from services.cli.learn_annotate import annotated
from services.cli.learn_samples import added
from services.cli.originals import register_all
from services.cli.originals_waiting import not_prepared_within
from services.cli.sources import FileSource
from services.cli.uploading import upload_all, verdicts_of
from services.clients.cases import HardCases, Verdicts
from services.clients.datasets import Datasets
from services.clients.samples import Samples
from services.core.errors import Unavailable
from services.core.learn.samples import Caps
from services.opening import open_objects
from services.settings import Settings
from trainer.samples.freezing import Freezer

TENANT = "experiment"
FINDABLE_S, JUDGED_S, CASES_S = 300.0, 1800.0, 120.0
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Learned:
    """What came out: verdicts by decision, annotations by outcome, and the dataset version."""

    decisions: dict[str, int]
    outcomes: dict[str, int]
    dataset: str


async def learned(settings: Settings, those: Sequence[Forgery], folder: Path, side: int) -> Learned:
    """Registers the originals, uploads the forgeries, waits for their hard cases, and lets the loop learn from them.

    Raises Unavailable where the stack does not do its part in time.
    """
    originals, uploads = _written(those, folder)
    async with opened_door(settings) as door:
        events = await register_all(door, originals, source="experiment", tenant=TENANT, sent=lambda: None)
        if missing := await not_prepared_within(settings, events, FINDABLE_S):
            raise Unavailable("originals", f"{len(missing)} originals are not ready to be found")
        sent = await upload_all(door, uploads, tenant=TENANT, sent=lambda: None)
    async with opened_database(settings) as database:
        verdicts = await verdicts_of(Verdicts(database), sent, timeout_s=JUDGED_S, arrived=lambda: None)
        if len(verdicts) < len(sent):
            raise Unavailable("judge", f"{len(sent) - len(verdicts)} uploads have no verdict after {JUDGED_S:.0f} s")
        await _all_cases(HardCases(database), len(verdicts))
    outcomes = await annotated(settings, TENANT, None, side, 1, False)
    await added(settings, TENANT, False)
    decisions = Counter(verdict.decision.value for verdict in verdicts.values())
    return Learned(dict(sorted(decisions.items())), dict(sorted(outcomes.items())), await _frozen(settings))


async def _all_cases(cases: HardCases, count: int) -> None:
    """Waits until every verdict is a hard case, which the experiment's policy asks for."""
    deadline = time.monotonic() + CASES_S
    while (found := len(await cases.find(TENANT, limit=count))) < count:
        if time.monotonic() > deadline:
            raise Unavailable("learn", f"only {found} of {count} verdicts are hard cases after {CASES_S:.0f} s")
        await asyncio.sleep(LOOK_S)


async def _frozen(settings: Settings) -> str:
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            freezer = Freezer(Samples(database), Datasets(database), objects)
            choice = await freezer.choice([TENANT], Caps())
            version = await freezer.freeze(choice, tenants=[TENANT], caps=Caps(), now=datetime.now(UTC))
            return version.name
    finally:
        objects.close()


def _written(those: Sequence[Forgery], folder: Path) -> tuple[list[FileSource], list[FileSource]]:
    """Originals and uploads as files."""
    written: dict[str, list[FileSource]] = {"originals": [], "uploads": []}
    for each in those:
        for part, data in (("originals", each.original), ("uploads", each.upload)):
            path = folder / part / f"{each.name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written[part].append(FileSource(path, path.name))
    return written["originals"], written["uploads"]
