"""A real MLServer for a test run: installed into an environment of its own, started, and stopped afterwards."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.clients.tiny_model import VERSIONS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".cache" / "mlserver" / "venv"
PACKAGES = ("mlserver==1.7.1", "pillow==13.0.0")


class CannotInstall(Exception):
    """MLServer cannot be had here. The text is the installer's."""


def install() -> Path:
    """The command `mlserver` of an environment that has it. Raises CannotInstall."""
    python, command = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "bin" / "mlserver"
    ready = ENVIRONMENT / "-".join(PACKAGES).replace("==", "-")
    if ready.exists():
        return command
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is not None:
        steps = [[uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)]]
        steps.append([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES])
    else:
        steps = [[sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)]]
        steps.append([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode != 0:
            raise CannotInstall(done.stderr[-2000:])
    ready.touch()
    return command


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The base URL of an MLServer that serves both models from `folder`. Raises CannotInstall."""
    command = install()
    http, grpc, metrics = _free_ports(3)
    for model, version in VERSIONS.items():
        (folder / model).mkdir()
        settings = {
            "name": model,
            "implementation": "tests.clients.mlserver_runtime.TinyRuntime",
            "versions": [version],
        }
        (folder / model / "model-settings.json").write_text(json.dumps(settings))
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    log = folder / "mlserver.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [command, "start", str(folder)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{http}"
        _wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"MLServer did not become ready:\n{log.read_text()[-3000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports
