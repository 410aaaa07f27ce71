"""`python -m bench.experiment_loop`: does the blind network learn from masks that nobody drew?

In: photographs. Out: `docs/experiment-loop.md` and its figure. A champion is fitted on some kinds of edits alone; then
forgeries of other kinds, with their originals, go through the running system, and the loop learns from them. Stages lie
in `--work`: started again with the same options, it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from bench.experiment_loop import arms, page
from bench.experiment_loop.forgeries import Forgery, Parts, forgeries, parts
from bench.experiment_loop.system import Learned, learned
from model_archive import package
from services.core.errors import PentimentoError
from services.core.policy import DEFAULT_POLICY
from services.local.options import StackOptions
from services.local.stack import running_stack
from services.settings import load_settings
from trainer.fit_settings import KINDS
from trainer.runs import this_run
from trainer.samples.reading import places
from trainer.single_cases import SingleItem

SEED = 20261127
_STARTED = int(time.time())
OLD = ("copy_move",)
NEW = ("splice", "removal", "object_jitter", "recolour", "texture_fill")
GENTLE = ("--peak-rate", "0.0008", "--warmup-steps", "20")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where something did not work, not where nothing was gained."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        experiment(options)
    except PentimentoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        _spent(options.work)
    return 0


def experiment(options: argparse.Namespace) -> None:
    """Every stage, from photographs to the page."""
    work: Path = options.work.absolute()
    split = parts(options.photos, options.photographs)
    photos = _linked(split, work / "photos")
    fit = _words(options)
    said("fitting the champion on " + " and ".join(options.kinds))
    start = [] if options.start_from is None else ["--start-from", str(options.start_from), *GENTLE]
    champion = arms.fitted(
        work / "champion" / "web_iml.safetensors", photos, [*fit, *start, "--steps", str(options.steps)]
    )
    sent = list(forgeries(split.uploaded, options.new_kinds, options.uploads, seed=SEED, side=options.side))
    found = _learned(options, champion, sent, work)
    root = work / "stack" / "objects"
    counts = {
        "kept": len(places(root, found.dataset, "train")),
        "all": arms.packed(root, arms.ALL, list(arms.all_masks(sent, options.side))),
        "random": arms.packed(root, arms.RANDOM, list(arms.random_masks(root, found.dataset))),
    }
    held = forgeries(split.tested, options.new_kinds, options.tests, seed=SEED + 1, side=options.side)
    items = [SingleItem(each.name, "new kinds", each.upload, each.mask, each.kind) for each in held]
    before = arms.f1(champion, items)
    after = {}
    for name, dataset in (("kept", found.dataset), ("all", arms.ALL), ("random", arms.RANDOM)):
        said(f"refitting on {counts[name]} samples: {page.NAMES[name]}")
        words = ["--start-from", str(champion), "--dataset", dataset, "--objects", str(root), *GENTLE]
        out = work / name / "web_iml.safetensors"
        after[name] = arms.f1(arms.fitted(out, photos, [*fit, *words, "--steps", str(options.refit_steps)]), items)
    gains = page.gains(before, after, counts)
    how = this_run("bench.experiment_loop", sys.argv[1:], version="", threads=options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_name("experiment-loop.svg").write_text(page.figure(gains), encoding="utf-8")
    minutes = _spent(work) / 60
    options.out.write_text(
        page.markdown(gains, before, (options.kinds, options.new_kinds), found, how, minutes), encoding="utf-8"
    )
    print(json.dumps({"champion": float(before.mean()), "arms": [asdict(each) for each in gains]}))


def _spent(work: Path) -> float:
    """Seconds of CPU of all runs in `work`, with fits and the stack, this one's until now."""
    times, kept = os.times(), work / "cpu.json"
    runs = json.loads(kept.read_text()) if kept.exists() else {}
    runs[f"{os.getpid()}-{_STARTED}"] = sum(times[:4])
    kept.write_text(json.dumps(runs))
    return float(sum(runs.values()))


def said(text: str) -> None:
    """Tells what is going on."""
    print(text, file=sys.stderr)


def _learned(options: argparse.Namespace, champion: Path, sent: Sequence[Forgery], work: Path) -> Learned:
    """The forgeries through a stack that serves the champion; what came of it is kept for the next run."""
    kept = work / "learned.json"
    if kept.exists():
        return Learned(**json.loads(kept.read_text()))
    store, data, policy = work / "archives", work / "stack", work / "policy.json"
    package.build("constrained", store)
    package.build("unconstrained", store, weights=champion.parent)
    everything = DEFAULT_POLICY.model_copy(update={"name": "experiment", "audit_share": 1.0})
    policy.write_text(everything.model_dump_json(exclude_none=True))
    os.environ["PENTIMENTO_POLICY__FILE"] = str(policy)  # every verdict is a hard case, so that the loop sees them all
    said(f"{len(sent)} forgeries of other kinds through the system")
    with running_stack(data, StackOptions(web=False, model_store=store)):
        found = asyncio.run(learned(load_settings(data), sent, work / "pictures", options.side))
    kept.write_text(json.dumps(asdict(found)))
    return found


def _words(options: argparse.Namespace) -> list[str]:
    """What all fits share."""
    words = {
        "--size": options.size,
        "--batch": options.batch,
        "--seed": SEED,
        "--threads": options.threads,
        "--calibration-samples": options.calibration_samples,
        "--workers": 1,
        "--checkpoint-every": 50,
    }
    kinds = [word for kind in options.kinds for word in ("--kind", kind)]
    return [*kinds, *(str(word) for pair in words.items() for word in pair)]


def _linked(split: Parts, folder: Path) -> Path:
    """A folder of links to the photographs that fits may see."""
    folder.mkdir(exist_ok=True)
    for path in split.fitted:
        link = folder / path.name
        if not link.exists():
            link.symlink_to(path.absolute())
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.experiment_loop", description=__doc__)
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of photographs; repeatable")
    parser.add_argument("--photographs", type=int, default=1000, help="photographs at most (1000)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=OLD, help="edits that the champion knows")
    parser.add_argument("--new-kinds", nargs="+", choices=KINDS, default=NEW, help="edits that it does not")
    parser.add_argument("--start-from", type=Path, help="weights that the champion starts from (default: random ones)")
    parser.add_argument("--steps", type=int, default=350, help="of the champion's fit (350)")
    parser.add_argument("--refit-steps", type=int, default=400, help="of each arm's fit (400)")
    parser.add_argument("--uploads", type=int, default=250, help="forgeries that go through the system (250)")
    parser.add_argument("--tests", type=int, default=250, help="forgeries that are measured on (250)")
    parser.add_argument("--side", type=int, default=384, help="pixels of both sides of forgeries (384)")
    parser.add_argument("--size", type=int, default=192, help="pixels of the pictures of fits (192)")
    parser.add_argument("--batch", type=int, default=12, help="pictures a step (12)")
    parser.add_argument("--calibration-samples", type=int, default=80, help="pictures that calibrate each fit (80)")
    parser.add_argument("--threads", type=int, default=1, help="threads of fits and measurements (1)")
    parser.add_argument("--work", type=Path, default=Path(".cache/experiment-loop"), help="folder for the stages")
    parser.add_argument("--out", type=Path, default=Path("docs/experiment-loop.md"), help="the page")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
