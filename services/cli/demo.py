"""`pentimento demo`: the whole stack up, the samples judged, pictures of the verdicts, the stack down again.

In: `samples/` with originals, uploads and `truth.json`. Out: a table, `verdicts.json` and a picture per upload. Exit
status 0 only if every upload has exactly one verdict. Each run is a tenant of its own, so that the data of earlier runs
neither helps nor hinders.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.connections import Door, messages, opened_database, opened_door
from services.cli.console import fail, note, progress, settings_of, wrong_use
from services.cli.demo_report import Result, Truth, read_truths, write_report
from services.cli.originals import register_all
from services.cli.originals_waiting import not_prepared_within
from services.cli.sources import FileSource, Source, files
from services.cli.uploading import upload_all, verdicts_of
from services.clients.cases import Verdicts
from services.clients.events import EventReader
from services.core import topology
from services.core.envelope import Message, decode
from services.core.errors import Unavailable
from services.core.events import ImageUploaded, VerdictReached
from services.local.options import StackOptions, external_addresses
from services.local.state import Phase, StackState
from services.opening import kafka_connection
from services.settings import Settings

FINDABLE_S = 120.0
JUDGED_S = 180.0
DRAINED_S = 20.0
LOOK_S = 0.2  # between two looks at the lag
GROUPS = ("intake", "judge")  # those that verdicts come from


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for pictures and verdicts.json.")] = Path(
        "demo-output"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The demo's own data folder (default: in the cache).")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="DIR", help="Folder with originals/, uploads/, truth.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines instead of a table.")] = False,
) -> None:
    """Start the whole stack, judge the sample uploads, write overlays, stop everything.

    Example: pentimento demo --out demo-output
    """
    from services.local.jars import default_cache
    from services.local.stack import running_stack

    folder = samples or Path(__file__).parents[2] / "samples"
    if not (folder / "uploads").is_dir():
        raise wrong_use(f"{folder} has no folder uploads/: the samples lie in the source checkout; see --samples")
    truths = read_truths(folder)
    home = data or default_cache() / "demo"
    up: set[str] = set()
    began = time.monotonic()
    note("starting Kafka, PostgreSQL, TorchServe, the workers and the web process")
    with running_stack(home, _options(home), on_change=lambda state: _say(state, up)):
        note(f"everything serves after {time.monotonic() - began:.0f} s")
        results = asyncio.run(_judged(settings_of(home), folder, truths))
        words = write_report(out, results, folder, as_json=as_json)
        note("stopping")
    note(f"{words} Pictures and verdicts.json are in {out}/. It took {time.monotonic() - began:.0f} s.")
    if wrong := undelivered(results):
        fail(f"not exactly one verdict each: {wrong}; the logs are in {home / 'logs'}")


async def _judged(settings: Settings, folder: Path, truths: Mapping[Path, Truth]) -> list[Result]:
    """Registers the originals, submits the uploads, and waits for the verdicts. Raises Unavailable."""
    tenant = f"demo-{uuid4().hex[:12]}"
    uploads: list[Source] = [FileSource(path, path.name) for path in truths]
    async with opened_door(settings) as door:
        await _register(settings, door, files([folder / "originals"]), tenant)
        with progress() as bar:
            task = bar.add_task("submitting", total=len(uploads))
            events = await upload_all(door, uploads, tenant=tenant, sent=lambda: bar.advance(task))
    async with opened_database(settings) as database:
        with progress() as bar:
            task = bar.add_task("judging", total=len(events))
            arrived = await verdicts_of(
                Verdicts(database), events, timeout_s=JUDGED_S, arrived=lambda: bar.advance(task)
            )
    if len(arrived) == len(events):  # otherwise the run has failed already, and the table says where
        await _drained(settings)
    found = await _delivered(settings, events)
    by_name = {event.filename: found[event.upload_id] for event in events}
    return [Result(path, truth, by_name.get(path.name, ())) for path, truth in truths.items()]


async def _register(settings: Settings, door: Door, originals: Sequence[FileSource], tenant: str) -> None:
    with progress() as bar:
        task = bar.add_task("registering originals", total=len(originals))
        events = await register_all(door, originals, source="demo", tenant=tenant, sent=lambda: bar.advance(task))
    missing = await not_prepared_within(settings, events, FINDABLE_S)
    if missing or len(events) < len(originals):
        named = "; ".join(f"{name}: {why}" for name, why in missing.items()) or "see above"
        raise Unavailable("originals", f"not every original is ready to be found: {named}")
    note(f"{len(originals)} originals registered")


async def _drained(settings: Settings) -> None:
    """Waits until nothing is on its way any more, so that a second verdict would have come by now."""
    reader = EventReader(kafka_connection(settings.kafka), timeout_s=settings.kafka.request_timeout_s)
    groups = [topology.GROUPS[name] for name in GROUPS]
    deadline = time.monotonic() + DRAINED_S
    while time.monotonic() < deadline:
        lags = [await reader.lag(group.consumer_group, group.reads) for group in groups]
        if not any(behind for lag in lags for behind in lag.values()):
            return
        await asyncio.sleep(LOOK_S)
    raise Unavailable("kafka", f"the workers still had messages to handle {DRAINED_S:.0f} s after the last verdict")


async def _delivered(settings: Settings, events: Sequence[ImageUploaded]) -> dict[str, tuple[VerdictReached, ...]]:
    """What came out of the stream for these uploads, by upload id."""
    arriving = messages(settings, topology.VERDICTS, from_beginning=True, until_end=True)
    async with aclosing(arriving):
        return different_verdicts([message async for message in arriving], [event.upload_id for event in events])


def different_verdicts(
    delivered: Iterable[Message], upload_ids: Iterable[str]
) -> dict[str, tuple[VerdictReached, ...]]:
    """Each upload's verdicts among the messages. The same bytes again are the same verdict, delivered again."""
    found: dict[str, dict[bytes, VerdictReached]] = {upload_id: {} for upload_id in upload_ids}
    for message in delivered:
        upload_id = (message.key or b"").decode(errors="replace")
        if upload_id in found and message.value is not None:
            found[upload_id][message.value] = decode(message, VerdictReached)
    return {upload_id: tuple(verdicts.values()) for upload_id, verdicts in found.items()}


def undelivered(results: Iterable[Result]) -> str:
    """Which uploads do not have exactly one verdict, in words; empty where all do."""
    return ", ".join(f"{each.file.name} has {len(each.verdicts)}" for each in results if len(each.verdicts) != 1)


def _say(state: StackState, up: set[str]) -> None:
    """A line for each component when it begins to serve, or when something is wrong with it."""
    for component in state.components:
        if component.phase in (Phase.RUNNING, Phase.EXTERNAL):
            if component.name not in up:
                up.add(component.name)
                note(f"  {component.name} serves")
        elif component.phase in (Phase.RESTARTING, Phase.FAILED):
            up.discard(component.name)
            note(f"  {component.name} {component.phase.value}: {component.detail}")


def _options(home: Path) -> StackOptions:
    """The whole stack; what the environment names an address for is not started."""
    ports = home / "ports.json"
    kept = json.loads(ports.read_text()) if ports.exists() else {}
    given = external_addresses(os.environ, home, kept)
    key_file = os.environ.get("PENTIMENTO_MODELS__KEY_FILE") if "models_url" in given else None
    return StackOptions.model_validate({**given, "models_key_file": key_file})
