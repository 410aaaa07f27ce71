"""Writes what we measure on as other benchmarks read it: `python -m trainer.export_benchmark --layout NAME --out DIR`.

In: photographs to generate the frozen test set from (`single_cases`), and folders of real forgeries. Out: a folder a
set below DIR, in one of two layouts; with `--predictions` our masks (8-bit grey PNG) in its folder `Predictions`.

* `imdl-benco`: `Tp/` and `Gt/` (white is forged), which `ManiDataset` pairs by the order of file names; `Au/` for
  authentic pictures; beside them `<set>.json`, which `JsonDataset` reads ([picture, mask] or [picture, "Negative"]),
  and `test_datasets.json`, which names them all. Paths in JSON are absolute, since they are opened as they stand. After
  `IMDLBenCo/datasets/iml_datasets.py` and `abstract_dataset.py` of scu-zjz/IMDLBenCo (commits 056a067, 2b704e1) and the
  page "Dataset Preparation" of its documentation (scu-zjz/IMDLBenCo-doc, 2c86418).
* `photoholmes`: PhotoHolmes has a class for each public data set and none for others, so sets take the shape of two
  that it knows. JPEG files lie as CASIA 1.0's spliced ones do (`casia1_splicing`: `Tp/Sp/NAME.jpg`, `Au/`, masks
  `CASIA 1.0 groundtruth/Sp/NAME_gt.png`, white is forged), lossless files as DSO-1's (`dso1`: `DSO-1/splicing-NAME.png`
  and `DSO-1/normal-NAME.png`, masks of the forged ones' names in `DSO-1-Fake-Images-Masks/`, where *black* is forged).
  After `src/photoholmes/datasets/casia1.py` and `dso1.py` of photoholmes/photoholmes (commit f57f487).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import Analysis, SingleRequest
from services.core.errors import Broken
from services.core.pixels import encode_png, open_image, sniff
from trainer.evaluate_web_iml import COUNT
from trainer.sets import Mask, fitted
from trainer.single_cases import SingleItem, generated_items, real_items
from trainer.synthesis.photos import PhotoPool

PREDICTIONS = "Predictions"
CASIA_MASKS, DSO_MASKS = "CASIA 1.0 groundtruth", "DSO-1-Fake-Images-Masks"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture and its mask go, relative to the set's folder; `mask` is None for authentic pictures.
    `forged_is_black` says which way round the mask is."""

    picture: str
    mask: str | None
    forged_is_black: bool = False


def imdl_benco(stem: str, suffix: str, forged: bool) -> Place:
    """IMDL-BenCo's place for a picture."""
    return Place(f"Tp/{stem}{suffix}", f"Gt/{stem}.png") if forged else Place(f"Au/{stem}{suffix}", None)


def photoholmes(stem: str, suffix: str, forged: bool) -> Place:
    """PhotoHolmes's place for a picture: by its format that of CASIA 1.0 or of DSO-1."""
    if suffix == ".jpg":
        return (
            Place(f"Tp/Sp/{stem}.jpg", f"{CASIA_MASKS}/Sp/{stem}_gt.png") if forged else Place(f"Au/{stem}.jpg", None)
        )
    if forged:
        name = f"splicing-{stem}.png"
        return Place(f"DSO-1/{name}", f"{DSO_MASKS}/{name}", forged_is_black=True)
    return Place(f"DSO-1/normal-{stem}.png", None)


LAYOUTS: dict[str, Callable[[str, str, bool], Place]] = {"imdl-benco": imdl_benco, "photoholmes": photoholmes}


def exported(
    items: Sequence[SingleItem], layout: str, folder: Path, model: Model[SingleRequest] | None = None
) -> list[tuple[Path, Path | None]]:
    """Writes one set into a folder; with a `model` its masks as well. Gives picture and mask of each item, in order.
    Raises Rejected where a file is no picture, Broken where the model fails on one."""
    written = []
    for number, item in enumerate(items):
        data, suffix = _plain(item.upload)
        stem = f"{number:05d}_{re.sub(r'[^A-Za-z0-9_]+', '_', item.name)}"  # numbers keep both folders in one order
        place = LAYOUTS[layout](stem, suffix, item.forged)
        picture = folder / place.picture
        _write(picture, data)
        mask = None
        if place.mask is not None:
            mask = folder / place.mask
            _write(mask, _mask_file(item, black=place.forged_is_black))
        if model is not None:
            _write(folder / PREDICTIONS / f"{picture.stem}.png", _predicted(model, item))
        written.append((picture, mask))
    return written


def dataset_list(written: Sequence[tuple[Path, Path | None]]) -> str:
    """IMDL-BenCo's JSON list of one set."""
    pairs = [[str(picture.resolve()), "Negative" if mask is None else str(mask.resolve())] for picture, mask in written]
    return json.dumps(pairs, indent=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.export_benchmark", description=__doc__)
    parser.add_argument("--layout", choices=sorted(LAYOUTS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write sets into")
    parser.add_argument("--set", type=Path, action="append", default=[], help="folder with a manifest.csv")
    parser.add_argument("--photos", type=Path, action="append", default=[], help="photographs to make forgeries from")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--split", choices=("test", "held_out", "all"), default="test", help="which of the photographs")
    parser.add_argument("--count", type=int, default=COUNT, help=f"generated forgeries ({COUNT}), with as many twins")
    parser.add_argument("--predictions", action="store_true", help="write our masks as well")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    sets = {folder.name: list(real_items(folder)) for folder in options.set}
    if options.photos:
        pool = PhotoPool.scan(options.photos, options.outlines, split=options.split)
        sets["generated"] = list(generated_items(pool, options.count))
    if not sets:
        parser.error("nothing to export: give --set or --photos")
    model = unconstrained_model(options.weights) if options.predictions else None
    named = {}
    for name, items in sets.items():
        written = exported(items, options.layout, options.out / name, model)
        if options.layout == "imdl-benco":
            listed = options.out / f"{name}.json"
            listed.write_text(dataset_list(written), encoding="utf-8")
            named[name] = str(listed.resolve())
        print(f"{options.out / name}: {sum(mask is not None for _, mask in written)} forged of {len(written)} pictures")
    if named:
        (options.out / "test_datasets.json").write_text(json.dumps(named, indent=1), encoding="utf-8")
    return 0


def _plain(upload: bytes) -> tuple[bytes, str]:
    """The file as it is where it is a JPEG or a PNG, else as PNG, with its suffix."""
    kind = sniff(upload)
    if kind in ("JPEG", "PNG"):
        return upload, ".jpg" if kind == "JPEG" else ".png"
    return encode_png(open_image(upload).rgb), ".png"


def _mask_file(item: SingleItem, *, black: bool) -> bytes:
    picture = open_image(item.upload)
    mask: Mask = fitted(item.mask, (picture.height, picture.width))
    return encode_png(np.where(mask != black, 255, 0).astype(np.uint8))


def _predicted(model: Model[SingleRequest], item: SingleItem) -> bytes:
    answer = model.analyse([SingleRequest(item.upload)])[0]
    if not isinstance(answer, Analysis):
        raise Broken(f"{item.data} {item.name}: {answer.message}")
    return encode_png(answer.mask)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    raise SystemExit(main())
