"""What a round does with models: the command lines of its fit and its gate, and what it reads from their results.

In: a round, its folder. Out: commands, which run as processes of their own; a package in the registry. The same round
has the same files, so that all of it may be repeated.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from model_archive import card, package
from services.clients.objects import Objects
from services.core.errors import Broken
from services.core.learn.rounds import Round
from services.core.learn.shards import MOST_BYTES, digest, index_key
from trainer.registry import Entry, Registry
from trainer.samples.reading import folder, shards

MODEL, NETWORK = "unconstrained", "web_iml"
GENTLE = ("--peak-rate", "0.0005", "--warmup-steps", "50")
"""What a warm start wants: a rate that does not undo what the champion knows."""

SEED = 20261127  # the first round's is one more


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a round below `root`."""

    root: Path

    @property
    def champion(self) -> Path:
        """The weights that the round started from, the same until its end whatever serves meanwhile."""
        return self.root / "champion.safetensors"

    @property
    def challenger(self) -> Path:
        """The weights that it fits."""
        return card.default_path(NETWORK, self.root)

    @property
    def report(self) -> Path:
        """The gate's report."""
        return self.root / "report"

    @property
    def archive(self) -> Path:
        """The challenger as the model server takes it."""
        return self.root / f"{MODEL}.mar"

    def keep_champion(self, weights: bytes) -> None:
        """Keeps weights as the champion's, unless there are some already."""
        if not self.champion.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            unfinished = self.champion.with_suffix(".writing")
            unfinished.write_bytes(weights)
            unfinished.replace(self.champion)


def version_of(weights: Path) -> str:
    """The version that verdicts name: of the card, with the file's hash."""
    return card.read(weights).version_with(card.sha256(weights))


def weights_in(archive: bytes) -> bytes:
    """The main network's weights in a model archive. Raises Broken where there are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return opened.read(f"{NETWORK}.safetensors")
    except (zipfile.BadZipFile, KeyError) as error:
        raise Broken(f"the archive that serves holds no {NETWORK}: give --champion, a file of weights") from error


def after(version: str) -> str:
    """The version of weights that go on from others: the last number, one higher."""
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}" if head and last.isdigit() else f"{version}.1"


def fit_command(at: Round, files: Folder, objects: Path) -> list[str]:
    """The fit of a round on the samples below `objects`; goes on from its checkpoint where there is one."""
    options = at.options
    given = {
        "--out": files.challenger,
        "--start-from": files.champion,
        "--version": after(card.read(files.champion).version),
        "--dataset": at.dataset,
        "--objects": objects,
        "--samples-share": options.samples_share,
        "--steps": options.steps,
        "--seed": SEED + at.id,
    }
    words = [str(word) for pair in given.items() for word in pair]
    return [sys.executable, "-m", "trainer.fit", NETWORK, "--resume", *words, *_photos(at), *GENTLE, *options.fit]


def gate_command(at: Round, files: Folder) -> list[str]:
    """The gate of a round."""
    words = ["--champion", str(files.champion), "--challenger", str(files.challenger), "--out", str(files.report)]
    sets = [word for folder in at.options.sets for word in ("--set", folder)]
    return [sys.executable, "-m", "trainer.gate", *words, *sets, *_photos(at), *at.options.gate]


def refusal(files: Folder) -> str | None:
    """Why the gate refused, None where it passed."""
    report = json.loads((files.report / "report.json").read_text(encoding="utf-8"))
    failed = [f"{check['name']}: {check['reason']}" for check in report["checks"] if not check["passed"]]
    return None if report["verdict"] == "pass" else "; ".join(failed)


def registered(at: Round, files: Folder) -> Entry:
    """The challenger, packaged and in the registry with all that speaks for it, however often it is asked."""
    package.build(MODEL, files.root, version_of(files.challenger), weights=files.root)
    registry = Registry(at.options.registry)
    entry = registry.add(files.archive, files.challenger, report=files.report, dataset=at.dataset or "")
    registry.name(MODEL, "challenger", entry.version)
    return entry


async def fetched(objects: Objects, version: str, root: Path) -> Path:
    """The training shards of a dataset version as files below `root`, which is returned."""
    listed = await objects.get(index_key(version), MOST_BYTES)
    _write(root / index_key(version), listed)
    for shard in shards(folder(root), version, "train"):
        target = root / shard.object_key
        if not target.exists() or digest(target.read_bytes()) != shard.sha256:
            _write(target, await objects.get(shard.object_key, MOST_BYTES))
    return root


def _photos(at: Round) -> list[str]:
    return [word for photos in at.options.photos for word in ("--photos", photos)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
