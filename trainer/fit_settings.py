"""What a fit is to do: its settings, and how they come from a command line and a profile.

In: arguments. Out: `FitSettings`. What is given on the command line goes before the profile, the profile before the
defaults below.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from model_archive import weights
from model_archive.networks import registry
from model_archive.networks.backbones import WEIGHTS as BACKBONE_WEIGHTS
from trainer import profiles
from trainer.loss import LossWeights
from trainer.synthesis.edits import EDITS

PREFETCH = 3
"""Batches that each maker of samples may be ahead of the fit, as `trainer.data.batches` has it."""

KINDS = tuple(make.__name__ for make, _ in EDITS)
"""Kinds of generated forgeries."""


@dataclass(frozen=True, slots=True)
class Mining:
    """Hard-example mining; see `trainer.mining`. Off where `share` is 0."""

    share: float = 0.0  # of the twin pairs of a batch, 0..1, that are drawn again from the hardest ones
    every: int = 1000  # steps between two scorings
    pool: int = 1024  # samples that are scored: a twelfth of what two cores make in that time
    keep: float = 0.3  # of those, the share that counts as hard; fewer would come back too often


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Everything that decides a fit, each with its unit and reason."""

    network: str
    photos: tuple[Path, ...]
    outlines: tuple[Path, ...] = ()
    out: Path = Path("fitted.safetensors")
    version: str = "0.1.0"
    minutes: float = 20.0  # wall clock; ignored where `steps` is given
    steps: int | None = None  # a fixed number of steps makes a fit repeatable on the same machine kind
    batch: int = 12  # pictures a pass and process: what two small cores digest in under a second
    accumulate: int = 1  # passes a step, whose gradients are averaged: larger batches than the memory holds
    size: int = 256  # pixels: 32 x 32 JPEG blocks, enough context for a small network
    peak_rate: float = 2.5e-3  # AdamW from random weights with batch normalisation
    warmup_steps: int = 150
    weight_decay: float = 0.02
    average: float = 0.998  # decay per step of the averaged weights, which are the ones that ship
    clip: float = 2.0  # largest norm of the gradient: a few odd batches must not undo the rest
    loss: LossWeights = field(default_factory=LossWeights)
    mining: Mining = field(default_factory=Mining)
    seed: int = 20261122
    threads: int = 1
    workers: int = 1  # processes that make samples, per fitting process; the fit is the same for any number of them
    device: str = "cpu"
    half: bool = True  # bfloat16 where the processor has it: twice as fast, same masks
    compile: bool = False  # torch.compile: minutes at the start, faster steps; for GPUs
    backbone_weights: Path | None = None  # safetensors file that a network's backbone starts from
    start_from: Path | None = None  # fitted weights of the same network to go on from, with a schedule of its own
    kinds: tuple[str, ...] = ()  # generated forgeries of these kinds alone, a single edit each; empty: as they come
    dataset: str = ""  # frozen version of samples that a share of the pictures comes from
    objects: Path = Path("data/objects")  # folder of the object store that holds it
    samples_share: float = 0.5  # of the pairs of twins, 0..1, where there is a dataset
    checkpoint_every: int = 250  # steps
    resume: bool = False
    calibration_samples: int = 400
    track: str = ""  # where MLflow keeps its records; empty: nowhere
    command: str = ""

    @property
    def checkpoint(self) -> Path:
        """Where the resumable state lies."""
        return self.out.with_suffix(".checkpoint.pt")

    @property
    def sheet(self) -> Path:
        """Where the sample pictures lie, renewed with every checkpoint."""
        return self.out.with_suffix(".samples.png")

    def to_json(self) -> str:
        """All of it, for people and records."""
        return json.dumps(asdict(self), indent=2, default=str)


PROFILED = frozenset(each.name for each in fields(FitSettings)) - {
    *("network", "photos", "outlines", "out", "version", "loss", "mining", "resume", "track", "command"),
    *("backbone_weights", "start_from", "kinds", "dataset", "objects", "device", "half"),
} | {"mine"}
"""What a profile may set: what depends on the machine or on how long a fit is to be."""

_OWN = ("profile", "print_settings", "mine", "mine_every", "mine_pool", "full_precision")


def parsed(arguments: list[str]) -> FitSettings:
    """Settings from a command line; `--print-settings` prints them instead and ends the process with status 0."""
    base = FitSettings(network="", photos=())
    parser = _parser(base)
    first = parser.parse_args(arguments)
    try:
        parser.set_defaults(**profiles.profile(first.profile, first.network, PROFILED))
    except ValueError as error:
        parser.error(str(error))
    options = vars(parser.parse_args(arguments))
    own = {name: options.pop(name) for name in _OWN}
    if first.minutes is not None and first.steps is None:
        options["steps"] = None  # asked for by hand, a time goes before a profile's number of steps
    options["minutes"] = base.minutes if options["minutes"] is None else options["minutes"]
    if options["device"] == "auto":
        options["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    options["workers"] = makers(str(options["workers"]), options["threads"], options["device"])
    options["photos"] = tuple(options["photos"] or [Path("samples")])
    options["outlines"] = tuple(options["outlines"])
    options["kinds"] = tuple(options["kinds"])
    if options["backbone_weights"] is not None:
        options["backbone_weights"] = Path(options["backbone_weights"])
    options["out"] = options["out"] or weights.default_path(options["network"])
    options["mining"] = Mining(own["mine"], own["mine_every"], own["mine_pool"])
    options["half"] = not own["full_precision"]
    _checked(parser, options)
    settings = replace(base, **options, command=recorded(arguments))
    if own["print_settings"]:
        print(settings.to_json())
        raise SystemExit(0)
    return settings


def makers(asked: str, threads: int, device: str) -> int:
    """Processes that make samples: a number, or for "auto" the cores that are left to each fitting process of the node.

    On a GPU one core feeds it, on a CPU the fit's own threads are left out. Raises ValueError for anything else.
    """
    if asked != "auto":
        return int(asked)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by whatever launched several processes
    busy = 1 if torch.device(device).type == "cuda" else threads
    return max(1, len(os.sched_getaffinity(0)) // beside - busy)


def recorded(arguments: list[str]) -> str:
    """The command line as it is kept with the weights: without where they or records went, which decides nothing."""
    kept: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        if word in ("--out", "--track"):
            next(waiting, None)
        elif not word.startswith(("--out=", "--track=")):
            kept.append(word)
    return shlex.join(["python", "-m", "trainer.fit", *kept])


def _parser(base: FitSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.fit", description="Fit a network on generated forgeries.")
    parser.add_argument("network", choices=sorted(registry.NETWORKS))
    parser.add_argument("--photos", type=Path, action="append", help="folder of photographs (default: samples/)")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="folder of label maps, same stems")
    parser.add_argument("--out", type=Path, help="default: model_archive/weights/<network>.safetensors")
    parser.add_argument("--version", default=base.version)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")
    parser.add_argument(
        "--profile", default="cpu", help=f"defaults: {', '.join(profiles.names())}, or a file NAME.toml"
    )
    parser.add_argument("--print-settings", action="store_true", help="print the settings as JSON, and end")
    parser.add_argument("--track", default=os.environ.get("MLFLOW_TRACKING_URI", ""), help="where MLflow keeps records")
    kept = os.environ.get(BACKBONE_WEIGHTS) or None
    parser.add_argument("--backbone-weights", type=Path, default=kept, help="safetensors file to start a backbone from")
    parser.add_argument(
        "--start-from", type=Path, help="fitted weights of the same network to go on from (a warm start)"
    )
    parser.add_argument("--kind", dest="kinds", action="append", default=[], choices=KINDS, help="only such forgeries")
    parser.add_argument("--dataset", default="", metavar="ds-...", help="frozen samples to fit on, too (web_iml)")
    parser.add_argument("--objects", type=Path, default=base.objects, help="folder of the object store that holds them")
    _add_sizes(parser, base)
    _add_machine(parser, base)
    return parser


def _add_sizes(parser: argparse.ArgumentParser, base: FitSettings) -> None:
    parser.add_argument("--minutes", type=float, help=f"wall clock ({base.minutes:g})")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--batch", type=int, default=base.batch, help="pictures a pass and process")
    parser.add_argument("--accumulate", type=int, default=base.accumulate, help="passes a step")
    parser.add_argument("--size", type=int, default=base.size, help="side of the pictures in pixels")
    parser.add_argument("--peak-rate", type=float, default=base.peak_rate, help="largest learning rate")
    parser.add_argument("--warmup-steps", type=int, default=base.warmup_steps)
    parser.add_argument("--weight-decay", type=float, default=base.weight_decay)
    parser.add_argument("--average", type=float, default=base.average, help="decay of the averaged weights, per step")
    parser.add_argument("--clip", type=float, default=base.clip, help="largest norm of the gradient")
    parser.add_argument("--seed", type=int, default=base.seed)
    parser.add_argument("--checkpoint-every", type=int, default=base.checkpoint_every, help="steps")
    parser.add_argument("--calibration-samples", type=int, default=base.calibration_samples)
    parser.add_argument(
        "--samples-share", type=float, default=base.samples_share, help="share of the dataset's samples"
    )
    mining = base.mining
    parser.add_argument(
        "--mine",
        type=float,
        nargs="?",
        const=0.2,
        default=mining.share,
        help="share of hard examples, 0.2 if none is given",
    )
    parser.add_argument("--mine-every", type=int, default=mining.every, help="steps between two scorings")
    parser.add_argument("--mine-pool", type=int, default=mining.pool, help="samples that are scored")


def _add_machine(parser: argparse.ArgumentParser, base: FitSettings) -> None:
    parser.add_argument("--threads", type=int, default=base.threads)
    parser.add_argument("--workers", default=str(base.workers), help="processes that make samples, or auto")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--full-precision", action="store_true", help="float32 even where bfloat16 is at hand")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=base.compile, help="torch.compile")


def _checked(parser: argparse.ArgumentParser, options: dict[str, Any]) -> None:
    """Ends the process with a usage error where numbers make no fit."""
    for name in ("batch", "accumulate", "size", "checkpoint_every"):
        if options[name] < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 at least, not {options[name]}")
    if (options["dataset"] or options["kinds"]) and options["network"] not in registry.WEB_IML:
        parser.error(f"--dataset and --kind are for {', '.join(registry.WEB_IML)}, which look at single pictures")
    if not 0.0 <= options["samples_share"] <= 1.0:
        parser.error(f"--samples-share is a share, 0 to 1, not {options['samples_share']}")
    mining: Mining = options["mining"]
    if not 0.0 <= mining.share <= 1.0:
        parser.error(f"--mine is a share, 0 to 1, not {mining.share}")
    if mining.share and (mining.every < 1 or mining.pool < 2):
        parser.error("--mine-every must be 1 and --mine-pool 2 at least")
    ahead = PREFETCH * options["workers"]
    if mining.share and mining.every * options["accumulate"] < ahead:
        parser.error(f"--mine-every must be so long that {options['workers']} workers, {ahead} batches ahead, end it")
