"""`pentimento up`, `down`, `status` and `doctor`: the embedded stack from the command line.

In: a data folder and options. Out: a running (or stopped) stack, tables, exit statuses: 0 done or healthy, 1 something
failed or does not run, 2 wrong use.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from services.cli.console import Commands, JsonOption, fail, note, write_lines, write_table, wrong_use
from services.cli.stack_status import as_json, follow, say_changes, write_status
from services.core.errors import PentimentoError
from services.local.component import rotate
from services.local.files import write_private
from services.local.jars import cached_folder, default_cache
from services.local.options import OPTIONS_FILE, StackOptions, external_addresses
from services.local.state import Phase, StackState, last_state, make_private, read_state, supervisor_pid
from services.settings import data_dir, load_settings

STOP_TIMEOUT_S = 120.0  # workers finish their batches first
FORCED_TIMEOUT_S = 15.0

app = typer.Typer(cls=Commands, no_args_is_help=True)

EXTERNAL_NAMES = {
    "kafka": "kafka_bootstrap",
    "postgres": "postgres_dsn",
    "models": "models_url",
    "objects": "objects_url",
}

FolderOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder (PENTIMENTO_DATA_DIR; ~/.local/share/pentimento)."),
]


@app.command()
def up(  # noqa: PLR0913, PLR0917 - an option for each part
    data: FolderOption = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything on Ctrl-C.")] = False,
    port: Annotated[
        list[str] | None,
        typer.Option("--port", metavar="NAME=NUMBER", help="Fixed port: kafka, postgres, models, web, judge-1, ..."),
    ] = None,
    workers: Annotated[
        list[str] | None, typer.Option("--workers", metavar="GROUP=COUNT", help="Processes of intake, judge or learn.")
    ] = None,
    web: Annotated[bool, typer.Option("--web/--no-web", help="Also start the web process.")] = True,
    model_store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model archives to serve instead of the project's own.")
    ] = None,
    embedder: Annotated[bool, typer.Option("--embedder", help="Also serve the embedder, some 350 MB more.")] = False,
    promotions: Annotated[
        bool, typer.Option("--promotions", help="Let other versions of models be loaded while it runs (`promote`).")
    ] = False,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ADDRESS", help="Use this kafka, postgres, models or objects; start none here."),
    ] = None,
) -> None:
    """Start Kafka, PostgreSQL, TorchServe, the workers and the web process.

    Addresses that are set in the environment (PENTIMENTO_POSTGRES__DSN and its like) replace a component, too; a
    password belongs there, not on a command line. Ports and data are kept for the next start.

    Examples: `pentimento up`, `pentimento up --workers judge=2 --port web=8600`,
    `pentimento up --external kafka=broker:9092 --external objects=s3://bucket/prefix`
    """
    folder = data_dir(data)
    running = read_state(folder)
    if running is not None:
        note(f"The stack in {folder} runs already.")
        write_status(running)
        return
    addresses = {EXTERNAL_NAMES[name]: value for name, value in _pairs("component", external, EXTERNAL_NAMES).items()}
    counts = {**StackOptions().workers, **_numbers("group", workers, StackOptions().workers)}
    wanted = {"web": web, "workers": counts, "model_store": model_store, "embedder": embedder, "promotions": promotions}
    options = _options(folder, {**addresses, **wanted}, port)
    status = _foreground(folder, options) if foreground else _detached(folder, options)
    raise typer.Exit(status)


@app.command()
def down(data: FolderOption = None) -> None:
    """Stop everything, in reverse order; data and ports are kept.

    Example: `pentimento down`
    """
    folder = data_dir(data)
    supervisor = supervisor_pid(folder)
    if supervisor is None:
        note(f"Nothing runs in {folder}.")
        return
    before = read_state(folder)
    os.kill(supervisor, signal.SIGTERM)
    if follow(folder, lambda: supervisor_pid(folder) is None, STOP_TIMEOUT_S):
        note("Stopped.")
        return
    note(f"It does not stop within {STOP_TIMEOUT_S:.0f} s: killing it.")
    os.kill(supervisor, signal.SIGKILL)
    held = [component.leash_pid for component in before.components if component.leash_pid] if before else []
    gone = follow(folder, lambda: not any(Path(f"/proc/{pid}").exists() for pid in held), FORCED_TIMEOUT_S)
    if not gone:
        fail(f"these processes still live: {[pid for pid in held if Path(f'/proc/{pid}').exists()]}")
    note("Stopped by force.")


@app.command()
def status(data: FolderOption = None, json_lines: JsonOption = False) -> None:
    """Show what runs: state, process, ports, uptime, memory, restarts. Exit status 1 where not all is well.

    Examples: `pentimento status`, `pentimento status --json | jq .phase`
    """
    folder = data_dir(data)
    state = read_state(folder)
    if state is None:
        if not json_lines:
            note(f"Nothing runs in {folder}. Start it with: pentimento up")
        raise typer.Exit(1)
    if json_lines:
        write_lines(as_json(component) for component in state.components)
    else:
        write_status(state)
    well = all(component.phase in (Phase.RUNNING, Phase.EXTERNAL) for component in state.components)
    raise typer.Exit(0 if well else 1)


@app.command()
def doctor(data: FolderOption = None, json_lines: JsonOption = False) -> None:
    """Examine this machine and the stack, and say what to do. Exit status 1 where something fails.

    Example: `pentimento doctor`
    """
    from services.local.doctor import examine  # brings a client for each component

    findings = list(examine(data_dir(data)))
    if json_lines:
        write_lines({"check": f.check, "outcome": f.outcome, "text": f.text, "remedy": f.remedy} for f in findings)
    else:
        rows = [(f.check, f.outcome, f.text if not f.remedy else f"{f.text}\n-> {f.remedy}") for f in findings]
        write_table(("check", "outcome", "finding"), rows)
    raise typer.Exit(1 if any(finding.outcome == "fail" for finding in findings) else 0)


# -- starting ------------------------------------------------------------------------------------------------------


def _options(folder: Path, wanted: dict[str, Any], ports: list[str] | None) -> StackOptions:
    """Options from the command line and, below them, from the environment; wrong ones end with exit status 2."""
    kept_file = folder / "ports.json"
    kept = json.loads(kept_file.read_text()) if kept_file.exists() else {}
    values = {**external_addresses(os.environ, folder, kept), **wanted}
    if "models_url" in values:
        values["models_key_file"] = os.environ.get("PENTIMENTO_MODELS__KEY_FILE")
    try:
        options = StackOptions.model_validate(values)
    except ValidationError as error:
        raise wrong_use(str(error)) from error
    return options.model_copy(update={"ports": _numbers("port", ports, options.port_names())})


def _pairs(kind: str, pairs: list[str] | None, known: Iterable[str]) -> dict[str, str]:
    """["web=8600"] as {"web": "8600"}."""
    values = {}
    for pair in pairs or []:
        name, _, value = pair.partition("=")
        if not value:
            raise wrong_use(f"{pair!r} is not of the form NAME=VALUE")
        if name not in known:
            raise wrong_use(f"no such {kind}: {name} (there are {', '.join(known)})")
        values[name] = value
    return values


def _numbers(kind: str, pairs: list[str] | None, known: Iterable[str]) -> dict[str, int]:
    values = _pairs(kind, pairs, known)
    if wrong := [value for value in values.values() if not value.isdecimal()]:
        raise wrong_use(f"{wrong[0]!r} is no number")
    return {name: int(value) for name, value in values.items()}


def _foreground(folder: Path, options: StackOptions) -> int:
    from services.local.stack import supervise  # brings a client for each component

    shown: dict[str, str] = {}
    linked = False

    def changed(state: StackState) -> None:
        nonlocal linked
        say_changes(state, shown)
        if state.phase is Phase.RUNNING and not linked:
            linked = True
            _say_link(folder, state)

    return supervise(folder, options, changed)


def _say_link(folder: Path, state: StackState) -> None:
    """The link by which whoever started the stack signs in to the page under their name, once."""
    from services.cli.people import own_link  # brings the database

    page = next((each.address for each in state.components if each.name == "web"), None)
    if page is None:
        return
    try:
        path = asyncio.run(own_link(load_settings(folder), datetime.now(UTC)))
    except PentimentoError as error:
        note(f"Page: {page}. There is no one-time link for it: {error}")
        return
    if path is not None:
        note(f"Page, under your name, once and within ten minutes: {page}{path}")


def _detached(folder: Path, options: StackOptions) -> int:
    """Start the supervisor as a process of its own and follow it until everything serves."""
    if options.kafka_bootstrap is None and not cached_folder(options.cache_dir or default_cache()).is_dir():
        note("First start: Kafka's jars (45 MB) are downloaded into the cache.")
    make_private(folder)
    write_private(folder / "run" / OPTIONS_FILE, options.model_dump_json())
    log_file = folder / "logs" / "supervisor.log"
    log_file.parent.mkdir(exist_ok=True)
    rotate(log_file)
    with log_file.open("ab") as log:
        begin = log.tell()
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "services.local.stack", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def settled() -> bool:
        state = last_state(folder)
        ours = state is not None and state.supervisor_pid == supervisor.pid
        return supervisor.poll() is not None or (ours and state is not None and state.phase is Phase.RUNNING)

    try:
        follow(folder, settled, None, supervisor.pid)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    state = read_state(folder)
    if supervisor.poll() is None and state is not None:
        write_status(state)
        note(f"Logs: {log_file.parent}. Settings for every tool: {folder / 'settings.env'}")
        _say_link(folder, state)
        return 0
    if state is not None:  # another `up` was quicker
        note(f"The stack in {folder} runs already.")
        write_status(state)
        return 0
    return fail(f"the stack does not start:\n{log_file.read_bytes()[begin:].decode().strip()}")
