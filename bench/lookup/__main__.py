"""`python -m bench.lookup recall --photos DIR` and `python -m bench.lookup scale`: lookup, measured.

In: photographs, or numbers of originals. Out: a section of the page (`--out docs/lookup.md`, else stdout), or with
`--json` the figures as JSON lines on stdout. Exit status 1 where something did not work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.__main__ import LOOK_S, ROOT, busy_share, machine
from bench.lookup.drawn import HashSpread, Spread, Spreads
from bench.lookup.filled import server
from bench.lookup.methods import DECODED_SIDE, Embedder, embedder
from bench.lookup.page import Setting, recall_section, write
from bench.lookup.recall import Work, measured
from bench.lookup.scale import Scale, verification
from bench.lookup.scale import measured as scaled
from bench.lookup.scale_page import scale_section
from bench.lookup.word_page import word_section
from bench.lookup.word_scale import WordScale, occurring
from bench.lookup.word_scale import measured as words_measured
from services.core.errors import PentimentoError
from services.core.intake.fingerprint import LEAST_QUALITY, SIDE, fingerprint
from services.core.intake.regions import STORED
from services.core.pixels import open_image
from services.local.postgres import Postgres
from trainer.synthesis.photos import Photo, PhotoPool

SEED = 20261127


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    run = {"recall": recall, "scale": scale, "words": words}[options.what]
    try:
        return run(options, shlex.join(["python", "-m", "bench.lookup", *given]))
    except (PentimentoError, TimeoutError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def recall(options: argparse.Namespace, command: str) -> int:
    """What is found of photographs that nothing was fitted on."""
    busy = busy_share(LOOK_S)
    model = embedder()
    work = work_of(options.photos, options.outlines, split=options.split, most=options.most, seed=options.seed)
    rows = measured(work, model, workers=options.workers, console=Console(stderr=True))
    _deliver(options, (asdict(row) for row in rows), recall_section(rows, _setting(command, _data(work, model), busy)))
    return 0


def scale(options: argparse.Namespace, command: str) -> int:
    """What indexes of some sizes cost."""
    busy = busy_share(LOOK_S)
    spreads = Spreads(_spread(options.photos), _hash_spread(options.photos))
    with tempfile.TemporaryDirectory(prefix="pentimento-lookup-") as temporary:
        folder = options.data or Path(temporary) / "data"
        samples = sorted((ROOT / "samples" / "originals").glob("*.jpg"))
        verified = verification(samples, Path(temporary) / "pictures", options.verifications, options.seed)
        with server(folder, options.shared_buffers) as postgres:
            measure = partial(_measured, postgres, spreads, options)
            rows = [asyncio.run(measure(size)) for size in sorted(options.originals)]
            rows += [asyncio.run(measure(size, vectors=False)) for size in sorted(options.hashes)]
    data = (
        f"{spreads.hashes.origin} Vectors are spread {spreads.vectors.origin}; the regions of a picture are drawn "
        "apart. All pictures are of one tenant: all vectors lie in one graph. "
        f"`shared_buffers` {options.shared_buffers}, {options.workers} processes beside the first build a "
        f"graph; seed {options.seed}."
    )
    section = scale_section(rows, verified, options.queries, _setting(command, data, busy))
    _deliver(options, (asdict(row) for row in rows), section)
    return 0


def words(options: argparse.Namespace, command: str) -> int:
    """What visual words of some numbers of originals cost."""
    busy = busy_share(LOOK_S)
    console = Console(stderr=True)
    photos = options.photos or [ROOT / "samples" / "originals", ROOT / "samples" / "donors"]
    paths = [photo.path for photo in PhotoPool.scan(photos, split="all").photos][: options.most]
    seen = occurring(paths, console)

    async def all_sizes(postgres: Postgres) -> list[WordScale]:
        sizes = sorted(options.originals)
        asked = {"seed": options.seed, "asked": options.queries, "console": console}
        return [await words_measured(postgres, size, seen, lists=size >= options.lists_from, **asked) for size in sizes]

    with (
        tempfile.TemporaryDirectory(prefix="pentimento-words-") as folder,
        server(Path(folder), options.shared_buffers) as postgres,
    ):
        rows = asyncio.run(all_sizes(postgres))
    data = f"Words of {len(paths)} photographs; `shared_buffers` {options.shared_buffers}; seed {options.seed}."
    _deliver(options, (asdict(row) for row in rows), word_section(rows, _setting(command, data, busy)))
    return 0


async def _measured(
    postgres: Postgres, spreads: Spreads, options: argparse.Namespace, size: int, *, vectors: bool = True
) -> Scale:
    return await scaled(
        postgres,
        size,
        spreads,
        seed=options.seed,
        asked=options.queries,
        workers=options.workers,
        vectors=vectors,
        console=Console(stderr=True),
    )


def _spread(photos: Sequence[Path]) -> Spread:
    """That of the vectors of photographs, where there are some and an embedder."""
    model = embedder()
    if model is None or not photos:
        return Spread.even()
    paths = [photo.path for photo in PhotoPool.scan(photos, split="all").photos]
    wide = (open_image(path.read_bytes(), max_side=DECODED_SIDE).rgb for path in track(paths, "vectors"))
    vectors = np.concatenate([model.embed([rgb])[0][:STORED] for rgb in wide])
    return Spread.of(vectors, f"as those of {len(paths)} photographs (mean and covariance, `{model.version}`)")


def _hash_spread(photos: Sequence[Path]) -> HashSpread:
    """That of the hashes of photographs that are worth a hash, where there are some."""
    if not photos:
        return HashSpread.fair()
    paths = [photo.path for photo in PhotoPool.scan(photos, split="all").photos]
    seen = [fingerprint(open_image(path.read_bytes(), max_side=SIDE)) for path in track(paths, "hashes")]
    good = [bytes.fromhex(each.pdq) for each in seen if each.pdq_quality >= LEAST_QUALITY]
    return HashSpread.of(np.frombuffer(b"".join(good), np.uint8).reshape(-1, 32))


def work_of(photos: Sequence[Path], outlines: Sequence[Path], *, split: str, most: int | None, seed: int) -> Work:
    """Strangers are the split `held_out`, and stay outside of the index; the wanted ones are of the split asked for.

    With `most`, so many wanted photographs at random, outlined ones for half of them, and as many strangers.
    """
    pools = {name: PhotoPool.scan(photos, outlines, split=name).photos for name in ("all", "held_out")}
    strangers = pools["held_out"]
    apart = {photo.path.stem for photo in strangers}
    registered = [photo for photo in pools["all"] if photo.path.stem not in apart]
    wanted = registered if split == "all" else PhotoPool.scan(photos, outlines, split="test").photos
    chance = np.random.default_rng(seed)
    return Work(_some(wanted, most, chance), _some(strangers, most, chance), registered, seed)


def _some(photos: Sequence[Photo], most: int | None, chance: np.random.Generator) -> list[Photo]:
    """At most so many, half of them outlined where there are as many, in their order."""
    if most is None or len(photos) <= most:
        return list(photos)
    order = [photos[int(place)] for place in chance.permutation(len(photos))]
    outlined = [photo for photo in order if photo.labels is not None][: (most + 1) // 2]
    rest = [photo for photo in order if photo not in outlined]
    chosen = {photo.path for photo in [*outlined, *rest][:most]}
    return [photo for photo in photos if photo.path in chosen]


def _data(work: Work, model: Embedder | None) -> str:
    """What was looked up in what, in words."""
    outlined = sum(photo.labels is not None for photo in work.wanted)
    digest = PhotoPool(work.registered).digest()[:12]
    return (
        f"Data: {len(work.wanted)} photographs, {outlined} of them outlined; in the index {len(work.registered)} "
        f"(digest of the files `{digest}`), those included; {len(work.strangers)} strangers; seed {work.seed}. "
        f"Embedder: {f'`{model.version}`' if model else 'none'}."
    )


def _setting(command: str, data: str, busy: float) -> Setting:
    return Setting(date=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine(), command=command, data=data, busy=busy)


def _deliver(options: argparse.Namespace, rows: Iterable[dict[str, Any]], section: str) -> None:
    if options.json:
        for row in rows:
            print(json.dumps(row))
    if options.out is not None or not options.json:
        write(options.what, section, options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.lookup", description=__doc__)
    kinds = parser.add_subparsers(dest="what", required=True)
    found = kinds.add_parser("recall", help="what is found, by kind of change")
    found.add_argument("--photos", type=Path, action="append", required=True, help="photographs, searched in depth")
    found.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    found.add_argument("--split", choices=("test", "all"), default="test", help="which photographs are looked up")
    found.add_argument("--most", type=int, help="look up so many photographs, and so many strangers (default: all)")
    found.add_argument("--workers", type=int, default=1, help="processes that verify")
    cost = kinds.add_parser("scale", help="what an index of a given size costs")
    cost.add_argument("--originals", type=int, nargs="+", default=[10_000, 100_000], help="how many are registered")
    cost.add_argument("--hashes", type=int, nargs="+", default=[], help="the same, without vectors")
    cost.add_argument("--queries", type=int, default=200, help="searches that are timed")
    cost.add_argument("--verifications", type=int, default=20, help="verifications that are timed")
    cost.add_argument("--data", type=Path, help="folder that keeps filled indexes (default: a temporary one)")
    cost.add_argument(
        "--photos", type=Path, action="append", default=[], help="photographs whose vectors show the spread"
    )
    cost.add_argument(
        "--workers", type=int, default=0, help="processes that help to build a graph (they need /dev/shm)"
    )
    cost.add_argument("--shared-buffers", default="1GB", help="PostgreSQL's own cache")
    of_words = kinds.add_parser("words", help="what visual words of a given number of originals cost")
    of_words.add_argument("--originals", type=int, nargs="+", default=[10_000, 100_000], help="how many are registered")
    of_words.add_argument(
        "--lists-from",
        type=int,
        default=200_000,
        help="from so many originals on words are drawn as lists, not packed (%(default)s)",
    )
    of_words.add_argument("--queries", type=int, default=200, help="searches that are timed")
    of_words.add_argument("--photos", type=Path, action="append", help="photographs whose words are drawn from")
    of_words.add_argument("--most", type=int, default=200, help="at most so many photographs (%(default)s)")
    of_words.add_argument("--shared-buffers", default="1GB", help="PostgreSQL's own cache")
    for each in (found, cost, of_words):
        each.add_argument("--seed", type=int, default=SEED)
        each.add_argument("--out", type=Path, help="put the section into this page (default: stdout)")
        each.add_argument("--json", action="store_true", help="JSON lines on stdout")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
