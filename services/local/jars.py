"""Kafka's jars: resolved once by `jgo`, checked against recorded digests, then used offline.

In: the cache folder. Out: a folder that holds exactly the jars of `kafka-jars.sha256`. The pins lie beside the code, so
that nobody between us and the repository can hand us another broker.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from services.core.errors import Unavailable

KAFKA_VERSION = "4.1.0"
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
PINS = "kafka-jars.sha256"


def default_cache() -> Path:
    """`PENTIMENTO_CACHE_DIR`, else `~/.cache/pentimento`."""
    return Path(os.environ.get("PENTIMENTO_CACHE_DIR") or "~/.cache/pentimento").expanduser()


def pinned() -> dict[str, str]:
    """File name to SHA-256 (hexadecimal) of every jar that belongs on the class path."""
    lines = (files("services.local") / PINS).read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if line.strip())}


def kafka_jars(cache: Path) -> Path:
    """The folder with Kafka's jars, fetched if need be. Raises Unavailable when they cannot be had or do not match."""
    folder = cached_folder(cache)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as workshop:
            fetched = _fetch(Path(workshop))
            _move_into_place(fetched, folder)
    _check(folder)
    return folder


def cached_folder(cache: Path) -> Path:
    """Where the jars lie once they are there."""
    return cache / f"kafka-{KAFKA_VERSION}"


def _fetch(workshop: Path) -> Path:
    """Resolve and download below `workshop`; the folder with the flat list of checked jars."""
    import jgo
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    try:
        context = MavenContext(repo_cache=workshop / "repository", timeout=60)
        environment = EnvironmentBuilder(context=context, cache_dir=workshop / "jgo").from_endpoint(ENDPOINT)
    except Exception as error:  # jgo raises whatever its HTTP layer does
        text = f"Kafka's jars cannot be fetched with jgo {jgo.__version__} ({error}): check the network, then try again"
        raise Unavailable("jars", text) from error
    flat = workshop / "flat"
    flat.mkdir()
    for jar in Path(environment.path).rglob("*.jar"):
        shutil.copyfile(jar, flat / jar.name)
    _check(flat)
    return flat


def _check(folder: Path) -> None:
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = sorted(name for name in found.keys() | pinned().keys() if found.get(name) != pinned().get(name))
    if wrong:
        text = (
            f"{len(wrong)} jars in {folder} differ from {PINS} ({', '.join(wrong[:3])}): remove that folder, try again"
        )
        raise Unavailable("jars", text)


def _move_into_place(fetched: Path, folder: Path) -> None:
    """Appear under the final name at once; another process may have been quicker, with the same content."""
    try:
        fetched.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
