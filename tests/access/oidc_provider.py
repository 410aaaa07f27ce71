"""A certified OpenID provider as a process: npm's `oidc-provider`, at an exact version whose archive is checked.

In: a port and our client. Out: the provider, listening. It is installed once into the cache, without scripts. Where
there is no node or npm, or the registry cannot be reached, `why_absent` says so and tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "9.13.3"
INTEGRITY = "sha512-WmNDX9dLeItBmIqGqspmX5u6Cc7VVMrKUw2InX2T16+bwUJ8m/N5rJ3Ed+YKxE5aZqLp4YqwEi6kMJx4Ui5ffw=="
LEAST_NODE = 20
PROGRAM = Path(__file__).with_name("provider.mjs")
CACHE = Path(os.environ.get("PENTIMENTO_CACHE_DIR", Path(__file__).parents[2] / ".cache")).absolute()
INSTALL_S = 180


def why_absent() -> str | None:
    """Why there is no provider here; None where there is one, installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "there is no node and npm: the OpenID provider of the test is npm's `oidc-provider`"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < LEAST_NODE:
        return f"node {version.strip()} is too old for oidc-provider, {LEAST_NODE} is needed"
    return None if _installed().is_dir() else _install(npm)


def _folder() -> Path:
    return CACHE / "oidc" / VERSION


def _installed() -> Path:
    return _folder() / "node_modules" / "oidc-provider"


def _install(npm: str) -> str | None:
    """Install it beside, look at the archive's hash, then put it in its place."""
    making = _folder().with_name(f"{VERSION}.{os.getpid()}")
    making.mkdir(parents=True)
    try:
        named = f"oidc-provider@{VERSION}"
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(making)]
        done = subprocess.run(
            [npm, "install", *options, named], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            return f"npm does not install {named} here: {done.stderr.strip()[-200:]}"
        lock = (making / "package-lock.json").read_text(encoding="utf-8")  # what npm checked while it unpacked
        assert INTEGRITY in lock, f"{named} is not the archive that it was"
        if not _installed().is_dir():
            making.rename(_folder())
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return None


@contextmanager
def running_provider(port: int, client_id: str, client_secret: str, redirect_uri: str) -> Iterator[str]:
    """The provider on a port; its issuer."""
    program = _folder() / PROGRAM.name  # node looks for modules beside the program
    program.write_bytes(PROGRAM.read_bytes())
    node = shutil.which("node") or "node"
    process = subprocess.Popen(
        [node, str(program), str(port), client_id, client_secret, redirect_uri],
        cwd=_folder(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "listening" in line:
                break
        assert process.poll() is None and "listening" in said[-1], "".join(said)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()
