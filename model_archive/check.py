"""Proves an archive before it serves: `python -m model_archive.check DIR/constrained.mar ...`.

In: archives. Out: for each, whether its own code, loaded as TorchServe loads it, gives the golden mask for the golden
request. `--renew` writes new golden masks, which belongs to every change of weights or preparation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_archive.handlers.results import KEYWORD
from model_archive.package import ARCHIVES
from services.core import pixels
from services.core.errors import Broken

GOLDEN = Path(__file__).parent / "golden"
FIELDS = {"constrained": ("upload", "original"), "unconstrained": ("upload",)}
TOLERANCE = 2.0  # grey levels of mean difference: another processor rounds differently, another model differs by far
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What an archive answered to the golden request. `difference` is the mean one to the golden mask, 0..255."""

    name: str
    mask: npt.NDArray[np.uint8]
    facts: dict[str, object]
    difference: float | None

    @property
    def good(self) -> bool:
        """Whether the mask is the golden one."""
        return self.difference is not None and self.difference <= TOLERANCE


def check(archive: Path) -> Checked:
    """Unpacks an archive, asks it the golden request, compares. Raises Broken where it gives no mask at all."""
    name = archive.stem
    if name not in ARCHIVES:
        raise Broken(f"{archive} must be named after a served model: {', '.join(sorted(ARCHIVES))}")
    body = _answer(archive, FIELDS[name])
    mask, text = pixels.read_mask_png(body)
    golden = GOLDEN / f"{name}.png"
    difference = None
    if golden.exists():
        wanted, _ = pixels.read_mask_png(golden.read_bytes())
        same_size = wanted.shape == mask.shape
        difference = float(np.abs(wanted.astype(int) - mask.astype(int)).mean()) if same_size else 255.0
    return Checked(name, mask, json.loads(text[KEYWORD]), difference)


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
    """Checks archives; returns 1 where one differs from its golden mask."""
    parser = argparse.ArgumentParser(prog="python -m model_archive.check", description=__doc__)
    parser.add_argument("archives", type=Path, nargs="+")
    parser.add_argument("--renew", action="store_true", help="write what they answer as the new golden masks")
    options = parser.parse_args(arguments)
    bad = 0
    for archive in options.archives:
        checked = check(archive)
        if options.renew:
            (GOLDEN / f"{checked.name}.png").write_bytes(pixels.encode_png(checked.mask, level=9))
        elif not checked.good:
            bad += 1
        verdict = "renewed" if options.renew else "good" if checked.good else "DIFFERS"
        shown = "no golden mask" if checked.difference is None else f"{checked.difference:.3f} grey levels off"
        print(f"{verdict}  {archive}  {shown}  {checked.facts['version']}  {checked.facts['seconds']} s")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
