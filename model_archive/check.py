"""Proves an archive before it serves: `python -m model_archive.check DIR/constrained.mar ...`.

In: archives. Out: for each, whether its own code, loaded as TorchServe loads it, gives the golden answer (a mask, or
vectors) to the golden request. `--renew` writes new golden answers, which belongs to every change of weights or
preparation.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from model_archive.handlers.results import KEYWORD
from model_archive.package import ARCHIVES
from services.core import pixels
from services.core.errors import Broken

GOLDEN = Path(__file__).parent / "golden"
FIELDS = {"constrained": ("upload", "original"), "embedder": ("upload",), "unconstrained": ("upload",)}
TOLERANCE = 2.0  # mean difference: another processor rounds differently, another model differs by far
VECTORS = "embedder"  # the model that answers vectors; the others answer masks
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What an archive answered to the golden request: what of it is compared, encoded as the golden file is, and facts.

    `difference` is the mean one to the golden answer: in grey levels 0..255 of a mask, in degrees 0..180 of vectors;
    infinite where shapes differ, None without a golden file.
    """

    name: str
    answer: bytes
    facts: dict[str, object]
    difference: float | None

    @property
    def golden(self) -> Path:
        """The file with the answer that there should be."""
        return GOLDEN / f"{self.name}.{'safetensors' if self.name == VECTORS else 'png'}"

    @property
    def good(self) -> bool:
        """Whether the answer is the golden one."""
        return self.difference is not None and self.difference <= TOLERANCE


def check(archive: Path) -> Checked:
    """Unpacks an archive, asks it the golden request, compares. Raises Broken where it gives no answer at all."""
    name = archive.stem
    if name not in ARCHIVES:
        raise Broken(f"{archive} must be named after a served model: {', '.join(sorted(ARCHIVES))}")
    body = _answer(archive, FIELDS[name])
    checked = _vectors(name, body) if name == VECTORS else _mask(name, body)
    if not checked.golden.exists():
        return checked
    apart = _degrees if name == VECTORS else _grey_levels
    return replace(checked, difference=apart(checked.answer, checked.golden.read_bytes()))


def _mask(name: str, body: bytes) -> Checked:
    """A mask, without the text that it came with."""
    mask, text = pixels.read_mask_png(body)
    return Checked(name, pixels.encode_png(mask, level=9), json.loads(text[KEYWORD]), None)


def _vectors(name: str, body: bytes) -> Checked:
    """Vectors, without the text that they came with."""
    length = int.from_bytes(body[:8], "little")
    facts = json.loads(body[8 : 8 + length])["__metadata__"]
    return Checked(name, save({"vectors": load(body)["vectors"]}), facts, None)


def _grey_levels(answer: bytes, golden: bytes) -> float:
    """Mean difference of two masks, 0..255."""
    mask, wanted = (pixels.read_mask_png(each)[0].astype(int) for each in (answer, golden))
    return float(np.abs(wanted - mask).mean()) if wanted.shape == mask.shape else math.inf


def _degrees(answer: bytes, golden: bytes) -> float:
    """Mean angle between the vectors of two answers."""
    vectors, wanted = (load(each)["vectors"].astype(np.float64) for each in (answer, golden))
    if vectors.shape != wanted.shape:
        return math.inf
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(np.degrees(np.arccos(np.clip((vectors * wanted).sum(axis=1) / lengths, -1.0, 1.0))).mean())


def _answer(archive: Path, fields: tuple[str, ...]) -> bytes:
    """The body that the archive's own code gives, in a process that sees the archive before any installed package."""
    with tempfile.TemporaryDirectory() as folder:
        model_dir, request_dir, out = (Path(folder) / name for name in ("model", "request", "body"))
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(model_dir)
        request_dir.mkdir()
        for field in fields:
            shutil.copy(GOLDEN / f"{field}.jpg", request_dir)
        command = [sys.executable, "-m", "model_archive.handlers.probe", str(model_dir), str(request_dir), str(out)]
        environment = os.environ | {"PYTHONPATH": str(model_dir)}
        done = subprocess.run(
            command, cwd=model_dir, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise Broken(f"{archive} cannot answer: {done.stderr.strip()[-800:]}")
        reply = json.loads(done.stdout.splitlines()[-1])
        if reply["status"] != 200:
            raise Broken(f"{archive} answered {reply['status']}: {out.read_text(encoding='utf-8')[:500]}")
        return out.read_bytes()


def main(arguments: list[str] | None = None) -> int:
    """Checks archives; returns 1 where one differs from its golden answer."""
    parser = argparse.ArgumentParser(prog="python -m model_archive.check", description=__doc__)
    parser.add_argument("archives", type=Path, nargs="+")
    parser.add_argument("--renew", action="store_true", help="write what they answer as the new golden ones")
    options = parser.parse_args(arguments)
    bad = 0
    for archive in options.archives:
        checked = check(archive)
        if options.renew:
            checked.golden.write_bytes(checked.answer)
        elif not checked.good:
            bad += 1
        verdict = "renewed" if options.renew else "good" if checked.good else "DIFFERS"
        unit = "degrees" if checked.name == VECTORS else "grey levels"
        shown = "no golden answer" if checked.difference is None else f"{checked.difference:.3f} {unit} off"
        print(f"{verdict}  {archive}  {shown}  {checked.facts['version']}  {checked.facts['seconds']} s")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
