"""Builds the TorchServe archives of the served models: `python -m model_archive.package --out DIR`.

In: a model's name. Out: a zip of its handler, everything of ours that the handler imports, and its weights; the same
input always gives the same bytes. The server needs torch, numpy, pillow, opencv and safetensors beside it, and timm
where prior features or another embedder are asked for, not us.
"""

from __future__ import annotations

import argparse
import ast
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_archive import card
from model_archive.card import sha256
from services.core.errors import Broken

ROOT = Path(__file__).resolve().parents[1]
OURS = ("model_archive", "services")
__all__ = ["ARCHIVES", "Archive", "build", "identity", "main", "sha256", "sources"]

VERSION = "0.1.0"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
PROBE = "model_archive/handlers/probe.py"  # lets `check` ask an archive without a server
TORCHSERVE = "0.12.0"  # the archiver version that the manifest is written as


@dataclass(frozen=True, slots=True)
class Archive:
    """What a served model is made of: a handler module below `model_archive/handlers`, and weights of networks, the
    main one's first."""

    handler: str
    networks: tuple[str, ...]


ARCHIVES = {
    "constrained": Archive("constrained", ("difference", "correlation", "pair_kind")),
    "embedder": Archive("embedder", ("embedder",)),
    "unconstrained": Archive("unconstrained", ("web_iml",)),
}
"""The served models by name."""


def build(name: str, out_dir: Path, version: str = VERSION, *, weights: Path | None = None) -> Path:
    """Writes `<out_dir>/<name>.mar` and returns its path. `weights` is a folder of other weights than the shipped ones.

    Raises ValueError for an unknown name and Broken for weights that do not load.
    """
    if name not in ARCHIVES:
        raise ValueError(f"no served model is called {name!r}; there are {', '.join(sorted(ARCHIVES))}")
    archive = ARCHIVES[name]
    fitted = {network: card.default_path(network, weights) for network in archive.networks}
    for network, path in fitted.items():
        if card.read(path).network != network:
            raise Broken(f"{path} holds weights of {card.read(path).network}, {name} needs those of {network}")
    entry = f"model_archive/handlers/{archive.handler}.py"
    code = sources(ROOT / entry) | sources(ROOT / PROBE)
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in sorted(code)}
    files[f"{archive.handler}.py"] = files[entry]  # TorchServe imports the handler from the archive's top
    files |= {f"{network}.safetensors": path.read_bytes() for network, path in fitted.items()}
    files["MAR-INF/MANIFEST.json"] = _manifest(name, version, archive)
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / f"{name}.mar"
    unfinished = target.with_suffix(".writing")
    _write(unfinished, files)
    unfinished.replace(target)
    return target


def identity(archive: Path) -> tuple[str, str]:
    """Name and version of the model in an archive. Raises Broken where there is none."""
    try:
        with zipfile.ZipFile(archive) as opened:
            model = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
        return str(model["modelName"]), str(model["modelVersion"])
    except (OSError, zipfile.BadZipFile, ValueError, LookupError) as error:
        raise Broken(f"{archive} is no model archive: {error}") from error


def sources(entry: Path) -> set[Path]:
    """The files of ours that a module needs: all that it imports, at any depth, and the packages around them."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        packages = [parent / "__init__.py" for parent in path.parents if parent != ROOT and ROOT in parent.parents]
        waiting += [*packages, *_imported(path)]
    return found


def _imported(path: Path) -> Iterator[Path]:
    """Files of our modules that a file's import statements name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                modules = [module, *(f"{module}.{alias.name}" for alias in names)]
            case _:
                continue
        for module in modules:
            if module.split(".")[0] in OURS:
                place = ROOT.joinpath(*module.split("."))
                yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _manifest(name: str, version: str, archive: Archive) -> bytes:
    manifest = {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": name,
            "serializedFile": f"{archive.networks[0]}.safetensors",
            "handler": f"{archive.handler}.py",
            "modelVersion": version,
        },
        "archiverVersion": TORCHSERVE,
    }
    return json.dumps(manifest, indent=2, sort_keys=True).encode()


def _write(path: Path, files: dict[str, bytes]) -> None:
    """A zip with sorted names, fixed times and rights, and no compression that could differ between zlib versions."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])


def main(arguments: list[str] | None = None) -> int:
    """Builds every archive and prints its SHA-256. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m model_archive.package", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the archives")
    parser.add_argument("--model", choices=sorted(ARCHIVES), action="append", help="only this one (default: all)")
    parser.add_argument("--version", default=VERSION)
    options = parser.parse_args(arguments)
    for name in options.model or sorted(ARCHIVES):
        path = build(name, options.out, options.version)
        print(f"{sha256(path)}  {path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
