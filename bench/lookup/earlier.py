"""`python -m bench.lookup.earlier --photos DIR`: how a late original finds earlier uploads by visual words.

In: photographs, of which uploads are made, and numbers of uploads that are kept. Out: for thresholds of what the words
that agree have to weigh (`core/intake/earlier.py`), how many uploads that hold a part of an original it finds, and how
many others, on stdout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from bench.lookup.changes import Change, Pixels, Rng, Source, cropped, saved, turned
from bench.lookup.word_lists import WordLists
from services.core.intake.earlier import MOST_EARLIER
from services.core.intake.words import STORED, VisualWords, agreed, words_of
from services.core.pixels import open_image
from services.opening import open_vocabulary
from trainer.synthesis.photos import PhotoPool

VOCABULARY = open_vocabulary()
SIDE = 1024  # pixels of the longer side that a photograph has before it is changed
THRESHOLDS = (2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0)
SEED = 20261130


def pasted(source: Source, stranger: Pixels, rng: Rng, *, side: float) -> Pixels:
    """A part of `side` of each side, pasted as it is into a stranger, where it fills as much."""
    part = cropped(source, stranger, rng, side=side)
    made = stranger.copy()
    height, width = (round(length * side) for length in made.shape[:2])
    top, left = int(rng.integers(made.shape[0] - height + 1)), int(rng.integers(made.shape[1] - width + 1))
    made[top : top + height, left : left + width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return made


def small_and_turned(source: Source, stranger: Pixels, rng: Rng) -> Pixels:
    """A part of 0.5 of each side, turned by 15 degrees."""
    return turned(Source(cropped(source, stranger, rng, side=0.5)), stranger, rng, degrees=15)


CHANGES = (
    *(Change("part", f"part of {s:.0%} of each side", partial(cropped, side=s)) for s in (0.6, 0.4, 0.25)),
    Change("part", "part of 50% of each side, turned", small_and_turned),
    *(Change("pasted", f"part of {s:.0%} of each side in a stranger", partial(pasted, side=s)) for s in (0.5, 0.3)),
)


@dataclass(frozen=True, slots=True)
class Vote:
    """What one original said of one kept upload; `change` None: the upload holds nothing of it."""

    change: str | None
    weight: float
    words: float
    """The weight in words of the median weight among those that are shared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(1)
    console = Console(stderr=True)
    pool = PhotoPool.scan(options.photos, split="all").photos
    chance = np.random.default_rng(SEED)
    paths = [pool[int(place)].path for place in chance.permutation(len(pool))[: 2 * options.most]]
    wanted, strangers = paths[: len(paths) // 2], paths[len(paths) // 2 :]
    originals, uploads = [], []
    for number, path in enumerate(track(wanted, "words", console=console)):
        photo, stranger = _opened(path), _opened(strangers[number % len(strangers)])
        originals.append(_seen(saved(photo)))
        made = CHANGES[number % len(CHANGES)].make(Source(photo), stranger, chance)
        uploads.append(_seen(saved(photo if made is None else made)))
    for size in options.uploads:
        print(f"\n{size} uploads are kept, of {len(wanted)} photographs, others drawn from their words")
        _print(_votes(originals, [*uploads, *_drawn(uploads, size - len(uploads), chance)]), len(originals))
    return 0


def _votes(originals: Sequence[VisualWords], uploads: Sequence[VisualWords]) -> list[Vote]:
    kept, votes = WordLists(uploads), []
    for own, original in enumerate(originals):
        shared = kept.shared(original)
        unit = float(np.median(shared.weights)) if len(shared.weights) else 1.0
        found = dict(agreed(original, shared, most=MOST_EARLIER))
        name = CHANGES[own % len(CHANGES)].name
        votes.append(Vote(name, found.get(own, 0.0), found.pop(own, 0.0) / unit))
        votes += [Vote(None, weight, weight / unit) for weight in found.values()]
    return votes


def _print(votes: Sequence[Vote], originals: int) -> None:
    for what in ("weight", "words"):
        print(f"least {what}:".ljust(44) + "".join(f"{least:>8g}" for least in THRESHOLDS))
        for change in CHANGES[:originals]:
            values = [getattr(vote, what) for vote in votes if vote.change == change.name]
            shares = [sum(value >= least for value in values) / len(values) for least in THRESHOLDS]
            print(f"{change.name} ({len(values)})".ljust(44) + "".join(f"{share:8.0%}" for share in shares))
        others = [getattr(vote, what) for vote in votes if vote.change is None]
        each = [sum(value >= least for value in others) / originals for least in THRESHOLDS]
        print("others, for each original".ljust(44) + "".join(f"{number:8.2f}" for number in each))


def _drawn(seen: Sequence[VisualWords], count: int, chance: np.random.Generator) -> list[VisualWords]:
    """Words of uploads that nobody made: drawn one by one from those seen, at even places."""
    words: npt.NDArray[np.int64] = np.concatenate([each.words[:, :1] for each in seen])
    return [
        VisualWords(
            VOCABULARY.name,
            words[chance.integers(len(words), size=STORED)],
            chance.integers(2**32, size=STORED, dtype=np.int64),
        )
        for _ in range(max(0, count))
    ]


def _opened(path: Path) -> Pixels:
    return open_image(path.read_bytes(), max_side=SIDE).rgb


def _seen(data: bytes) -> VisualWords:
    return words_of(data, VOCABULARY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.lookup.earlier", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of photographs")
    parser.add_argument("--most", type=int, default=300, help="photographs that uploads are made of")
    parser.add_argument("--uploads", type=int, nargs="+", default=[300, 10_000], help="kept uploads")
    return parser


if __name__ == "__main__":
    sys.exit(main())
