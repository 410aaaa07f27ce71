"""The registry of models, in a real MLflow store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model_archive import card, package, weights
from services.core.errors import Broken
from trainer import registry
from trainer.registry import Registry

WEIGHTS = card.default_path("web_iml")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, str, Path]:
    """A registry in a database with two versions, its address, and the folder of the second one's archive."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text(json.dumps({"verdict": "pass"}))
    found = Registry(uri)
    for version in ("1.0", "2.0+abc"):
        package.build("unconstrained", folder, version)
        found.add(folder / "unconstrained.mar", WEIGHTS, report=folder / "report", dataset="pool-3")
    return found, uri, folder


def test_a_version_comes_with_all_that_speaks_for_it(kept: tuple[Registry, str, Path], tmp_path: Path) -> None:
    found, _, folder = kept
    entry = found.get("unconstrained", "challenger")
    about = card.read(WEIGHTS)
    assert (entry.version, entry.gate, entry.dataset) == ("2.0+abc", "pass", "pool-3")
    assert entry.weights_version == about.version_with(card.sha256(WEIGHTS))
    assert entry.archive_sha256 == card.sha256(folder / "unconstrained.mar")
    assert found.archive(entry, tmp_path).read_bytes() == (folder / "unconstrained.mar").read_bytes()
    assert found.add(folder / "unconstrained.mar", WEIGHTS).run_id == entry.run_id


def test_an_alias_belongs_to_one_version(kept: tuple[Registry, str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found, uri, _ = kept
    for version in ("1.0", "2.0+abc"):
        found.name("unconstrained", "champion", version)
    assert registry.main(["list", "unconstrained", "--to", uri, "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["version"], "champion" in each["aliases"]) for each in listed] == [("2.0+abc", True), ("1.0", False)]


def test_what_is_not_there_is_named(kept: tuple[Registry, str, Path], tmp_path: Path) -> None:
    found, _, _ = kept
    with pytest.raises(Broken, match="has no 9 of unconstrained"):
        found.get("unconstrained", "9")
    other = package.build("unconstrained", tmp_path, "1.0", weights=_other_weights(tmp_path / "weights"))
    with pytest.raises(Broken, match=r"another archive is version 1\.0"):
        found.add(other, WEIGHTS)


def _other_weights(folder: Path) -> Path:
    """The shipped weights under another card."""
    loaded = weights.load(WEIGHTS)
    weights.save(loaded.network, replace(loaded.card, version="9.9.9"), folder / WEIGHTS.name)
    return folder
