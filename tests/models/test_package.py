"""Archives: the same bytes every time, complete, and checked before they serve."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from model_archive import card, package
from model_archive.check import check, main
from services.core.errors import Broken


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("store")
    return {name: package.build(name, folder) for name in package.ARCHIVES}


def copied_weights(folder: Path) -> Path:
    """The shipped weights of the pair model in a folder of their own."""
    folder.mkdir()
    for network in package.ARCHIVES["constrained"].networks:
        shutil.copy(card.default_path(network), folder)
    return folder


@pytest.mark.parametrize("name", sorted(package.ARCHIVES))
def test_the_same_input_gives_the_same_bytes(name: str, archives: dict[str, Path], tmp_path: Path) -> None:
    again = package.build(name, tmp_path)
    assert package.sha256(again) == package.sha256(archives[name])


def test_times_and_rights_of_the_files_do_not_change_the_archive(archives: dict[str, Path], tmp_path: Path) -> None:
    weights = copied_weights(tmp_path / "weights")
    for copy in weights.iterdir():
        copy.chmod(0o600)
        os.utime(copy, (1, 1))
    again = package.build("constrained", tmp_path / "store", weights=weights)
    assert package.sha256(again) == package.sha256(archives["constrained"])


def test_another_version_gives_another_archive(archives: dict[str, Path], tmp_path: Path) -> None:
    other = package.build("constrained", tmp_path, "9.9.9")
    assert package.sha256(other) != package.sha256(archives["constrained"])


@pytest.mark.parametrize("name", sorted(package.ARCHIVES))
def test_an_archive_holds_what_torchserve_looks_for(name: str, archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives[name]) as packed:
        names = packed.namelist()
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert names == sorted(names)
    assert manifest["model"]["modelName"] == name
    assert manifest["model"]["handler"] in names
    assert manifest["model"]["serializedFile"] in names


def test_an_archive_holds_no_code_that_the_handler_does_not_import(archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives["unconstrained"]) as packed:
        names = packed.namelist()
    assert "services/core/learn/qes.py" in names
    assert "model_archive/__init__.py" in names
    assert not [name for name in names if name.startswith(("trainer/", "services/stream/", "services/clients/"))]


@pytest.mark.parametrize("name", sorted({*package.ARCHIVES} - {"unconstrained"}))  # which the command's test asks
def test_an_archive_alone_gives_the_golden_answer(name: str, archives: dict[str, Path]) -> None:
    checked = check(archives[name])
    assert checked.good
    assert checked.facts["model"] == name


def test_an_archive_with_other_code_is_noticed(archives: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "unconstrained.mar"
    with zipfile.ZipFile(archives["unconstrained"]) as packed, zipfile.ZipFile(broken, "w") as target:
        for name in packed.namelist():
            code = packed.read(name)
            target.writestr(name, b"raise SystemExit('tampered')" if name == "unconstrained.py" else code)
    with pytest.raises(Broken, match="tampered"):
        check(broken)


def test_the_command_prints_each_archives_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert package.main(["--out", str(tmp_path), "--model", "unconstrained"]) == 0
    assert package.sha256(tmp_path / "unconstrained.mar") in capsys.readouterr().out
    assert main([str(tmp_path / "unconstrained.mar")]) == 0
    assert capsys.readouterr().out.startswith("good")


def test_weights_that_do_not_load_never_become_an_archive(tmp_path: Path) -> None:
    weights = copied_weights(tmp_path / "weights")
    (weights / "correlation.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(Broken, match="no usable weights"):
        package.build("constrained", tmp_path / "store", weights=weights)
    assert not (tmp_path / "store").exists()


def test_weights_of_another_network_never_become_an_archive(tmp_path: Path) -> None:
    weights = copied_weights(tmp_path / "weights")
    shutil.copy(card.default_path("web_iml"), weights / "pair_kind.safetensors")
    with pytest.raises(Broken, match="constrained needs those of pair_kind"):
        package.build("constrained", tmp_path / "store", weights=weights)


def test_the_archive_of_the_pair_model_holds_the_weights_of_all_its_networks(archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives["constrained"]) as packed:
        held = {name for name in packed.namelist() if name.endswith(".safetensors")}
    assert held == {"difference.safetensors", "correlation.safetensors", "pair_kind.safetensors"}


def test_archives_are_built_without_loading_torch(tmp_path: Path) -> None:
    code = f"import sys; from model_archive.package import main; main(['--out', {str(tmp_path)!r}]); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unknown_model_is_refused_with_the_names_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="constrained, embedder, unconstrained"):
        package.build("captions", tmp_path)
