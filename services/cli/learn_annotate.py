"""`pentimento learn annotate`: hard cases to annotations, the first step from verdicts back to a better model.

Thin: the work is `trainer.annotate`'s, which is imported only when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, TenantOption, fail, note, progress, settings_of, write_lines
from services.clients.annotations import AnnotatedCase, Annotations, OpenCase
from services.clients.candidates import Candidates
from services.opening import open_objects
from services.settings import Settings

SIDE = 1024


def annotate(
    tenant: TenantOption = "default",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="How many cases at most.")] = None,
    side: Annotated[
        int, typer.Option("--side", min=64, max=4096, help="Pixels of the longer side at which pairs are compared.")
    ] = SIDE,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads of the model; 0: torch decides.")] = 0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Annotate a tenant's hard cases, most urgent first, each once for a version of the annotator.

    kept: has a mask to learn from, or a moderator says that nothing was edited. dropped: the mask is not decisive (QES
    0.5 or less), or the two pictures have nothing in common. no_original: comes again when originals were registered.
    failed: the error says why. Stopped at any moment, the next run goes on.

    Example: pentimento learn annotate --tenant acme --limit 100
    """
    outcomes = asyncio.run(annotated(settings_of(data), tenant, limit, side, threads, as_json))
    note(", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())) or "no case waits")
    if outcomes["failed"]:
        fail(f"{outcomes['failed']} cases failed: see their `error`")


async def annotated(
    settings: Settings, tenant: str, limit: int | None, side: int, threads: int, as_json: bool
) -> Counter[str]:
    """Annotates a tenant's hard cases. Returns how many had which outcome."""
    import torch

    from trainer.annotate.originals import Originals, Search
    from trainer.annotate.work import Work
    from trainer.annotation import PairAnnotator

    if threads:
        torch.set_num_threads(threads)
    intake = settings.intake
    search = Search(
        max_distance=intake.max_distance,
        ways=intake.orientations,
        most=intake.max_candidates,
        min_inliers=intake.min_inliers,
        max_bytes=intake.max_bytes,
    )
    outcomes: Counter[str] = Counter()
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            annotations = Annotations(database)
            annotator = PairAnnotator(side=side)
            version = f"{annotator.annotator}@{side}"
            work = Work(
                annotations=annotations,
                objects=objects,
                originals=Originals(Candidates(database), objects, search),
                annotator=annotator,
                version=version,
                max_bytes=intake.max_bytes,
            )
            waiting = await annotations.waiting(tenant, version)
            with progress(hidden=as_json) as bar:
                task = bar.add_task("annotating", total=min(waiting, limit or waiting))
                async for case, found in work.run(tenant, limit=limit):
                    outcomes[found.outcome] += 1
                    if as_json:
                        write_lines([_as_json(case, found, version)])
                    bar.advance(task)
    finally:
        objects.close()
    return outcomes


def _as_json(case: OpenCase, found: AnnotatedCase, version: str) -> dict[str, Any]:
    return {
        "tenant": case.case.tenant,
        "upload_id": case.case.upload_id,
        "sha256": case.case.image.sha256,
        "reasons": [reason.value for reason in case.case.reasons],
        "priority": case.case.priority,
        "outcome": found.outcome,
        "source": found.source,
        "kind": found.kind,
        "area": found.area,
        "qes": found.qes,
        "original_sha256": found.original_sha256,
        "mask_key": found.mask_key,
        "original_mask_key": found.original_mask_key,
        "error": found.error,
        "annotator": version,
    }
