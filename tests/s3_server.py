"""A real S3 server for tests: versitygw where there is Go to build it with, moto's server elsewhere.

`S3Server` answers on loopback with one bucket. The gateway is built once, in `.cache/go-bin` (about two minutes).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSION = "v1.8.0"
BUCKET = "pentimento"
GO_BIN = Path(__file__).parents[1] / ".cache" / "go-bin"


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and the key that it lets in; moto lets every key in."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    bucket: str = BUCKET
    region: str = "us-east-1"
    checks_keys: bool = True


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with the bucket `pentimento`."""
    folder = tmp_path_factory.mktemp("s3")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    gateway = _gateway()
    endpoint, secret = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    server = S3Server(endpoint, "tests", secret, checks_keys=gateway is not None)
    if gateway is None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    else:
        (folder / BUCKET).mkdir()
        command = [str(gateway), "--port", f"127.0.0.1:{port}", "--quiet", "posix", *_metadata(folder), str(folder)]
    keys = {"ROOT_ACCESS_KEY_ID": server.access_key_id, "ROOT_SECRET_ACCESS_KEY": server.secret_access_key}
    with (folder.parent / "s3.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(server.endpoint, process)
        if gateway is None:
            request = urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT")
            urllib.request.urlopen(request, timeout=10).close()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)


def _gateway() -> Path | None:
    """The gateway's program, built at first use; None where Go is missing or cannot fetch the module."""
    program = GO_BIN / f"versitygw-{VERSION}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        built = subprocess.run(
            [go, "install", f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"],
            env={**os.environ, "GOBIN": scratch},
            cwd=scratch,
            check=False,
            timeout=900,
        )
        if built.returncode != 0:
            return None
        GO_BIN.mkdir(parents=True, exist_ok=True)
        staged = GO_BIN / f".{program.name}.{os.getpid()}"
        shutil.move(Path(scratch) / "versitygw", staged)
        staged.replace(program)  # at once, so that two test runs do not meet half a program
    return program


def _metadata(folder: Path) -> list[str]:
    """The gateway keeps metadata in extended attributes; where the file system has none, in files beside."""
    try:
        os.setxattr(folder, "user.pentimento", b"1")
    except OSError:
        beside = folder.parent / "s3-metadata"
        beside.mkdir()
        return ["--sidecar", str(beside)]
    return []


def _wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with status {process.returncode}")
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return  # refused, so it listens
        except OSError:
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise TimeoutError(f"the S3 server at {endpoint} does not answer")
