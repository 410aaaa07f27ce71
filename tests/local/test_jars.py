"""Kafka's jars are the pinned ones, or there is no broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import Unavailable
from services.local.jars import cached_folder, default_cache, kafka_jars, pinned


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of its own with the real jars."""
    folder = cached_folder(tmp_path)
    folder.mkdir()
    for jar in kafka_jars(default_cache()).glob("*.jar"):
        (folder / jar.name).symlink_to(jar)
    return tmp_path


def test_the_jars_in_the_cache_are_used_without_the_network(cache: Path) -> None:
    assert {jar.name for jar in kafka_jars(cache).glob("*.jar")} == pinned().keys()


def test_a_jar_with_other_bytes_is_refused(cache: Path) -> None:
    jar = cached_folder(cache) / "kafka-clients-4.1.0.jar"
    jar.unlink()
    jar.write_bytes(b"another client")
    with pytest.raises(Unavailable, match=r"1 jars in .* differ .*kafka-clients-4\.1\.0\.jar"):
        kafka_jars(cache)


def test_a_jar_that_nobody_asked_for_is_refused(cache: Path) -> None:
    (cached_folder(cache) / "extra.jar").write_bytes(b"")
    with pytest.raises(Unavailable, match=r"extra\.jar"):
        kafka_jars(cache)


def test_a_missing_jar_is_noticed(cache: Path) -> None:
    (cached_folder(cache) / "slf4j-api-1.7.36.jar").unlink()
    with pytest.raises(Unavailable, match="slf4j-api"):
        kafka_jars(cache)
