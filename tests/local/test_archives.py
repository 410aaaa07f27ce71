"""The project's model archives are built when they are missing or out of date, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.local.archives import STAMP, built_archives
from services.local.torchserve import archive_identity


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_archives(tmp_path_factory.mktemp("archives") / "models", ("constrained", "unconstrained"))


def test_both_models_are_built(built: Path) -> None:
    assert sorted(archive_identity(archive)[0] for archive in built.glob("*.mar")) == ["constrained", "unconstrained"]


def test_archives_that_are_up_to_date_are_left_alone(built: Path) -> None:
    before = {archive: archive.stat().st_mtime_ns for archive in built.glob("*.mar")}
    built_archives(built, ("constrained", "unconstrained"))
    assert {archive: archive.stat().st_mtime_ns for archive in built.glob("*.mar")} == before


def test_archives_of_other_sources_are_built_anew(built: Path) -> None:
    (built / STAMP).write_text("of yesterday")
    (built / "left-over.mar").write_bytes(b"")
    built_archives(built, ("constrained", "unconstrained"))
    assert (built / STAMP).read_text() != "of yesterday"
    assert not (built / "left-over.mar").exists()
