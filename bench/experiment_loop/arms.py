"""The arms of the experiment: the champion refitted on what the loop kept, and on two things that it would not have.

In: the loop's dataset version, forgeries. Out: datasets beside it, weights, and F1 of their masks on pictures that no
arm has seen. *kept*: the loop's own samples. *all*: QES off, whatever the annotator marked. *random*: the pictures of
*kept*, each with the mask of another one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from bench.experiment_loop.forgeries import Forgery
from services.core.errors import Broken
from services.core.learn.samples import group_named, split_of
from services.core.learn.shards import Member, digest, index_file, pack, shard_key
from services.core.pixels import encode_png, read_mask_png
from trainer import gate
from trainer.annotation import PairAnnotator
from trainer.samples.reading import MARKED, places
from trainer.single_cases import SingleItem

ALL, RANDOM = "ds-qes-off", "ds-random"


def all_masks(those: Sequence[Forgery], side: int) -> Iterator[Member]:
    """Forgeries with what the annotator marks, decisive or not; those of the training side alone."""
    annotator = PairAnnotator(side=side)
    for each in those:
        if split_of(group_named(sha256(each.original).hexdigest())) != "train":
            continue
        found = annotator.annotate(each.upload, each.original)
        if (found.mask >= MARKED).any():
            facts = {"id": each.name, "format": "JPEG", "kind": found.kind, "qes": found.qes}
            yield Member(each.upload, encode_png(found.mask), facts)


def random_masks(root: Path, version: str) -> Iterator[Member]:
    """The samples of a version, each with the mask of the one before it."""
    found = [place.member() for place in places(root, version, "train")]
    for place, member in enumerate(found):
        own = read_mask_png(member.mask)[0]
        other = read_mask_png(found[place - 1].mask)[0]
        mask = cv2.resize(other, own.shape[::-1], interpolation=cv2.INTER_NEAREST)
        yield replace(member, mask=encode_png(np.asarray(mask, np.uint8)))


def packed(root: Path, version: str, members: Sequence[Member]) -> int:
    """Writes a dataset of training samples below `root`. Returns how many there are."""
    data, key = pack(members), shard_key(version, "train", 0)
    shard = {"object_key": key, "split": "train", "sha256": digest(data), "samples": len(members)}
    index_key, listed, _ = index_file({"version": version, "shards": [shard]})
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    (root / key).write_bytes(data)
    (root / index_key).write_bytes(listed)
    return len(members)


def fitted(out: Path, photos: Path, words: Sequence[str]) -> Path:
    """Weights of the single-image network by `trainer.fit`, which goes on where it was stopped. Raises Broken."""
    command = [sys.executable, "-m", "trainer.fit", "web_iml", "--photos", str(photos), "--out", str(out), "--resume"]
    if status := subprocess.run([*command, *words], check=False, stdout=sys.stderr).returncode:
        raise Broken(f"the fit of {out.name} ended with status {status}: see above")
    return out


def f1(weights: Path, items: Sequence[SingleItem]) -> np.ndarray:
    """F1 of the masks of each picture, [N] float64, by the code that serves."""
    model = gate.loaded(weights)
    shown = track(items, f"measuring {weights.stem}", console=Console(stderr=True))
    return np.array([gate.look(model, item, "clean")[0].f1 for item in shown])
