"""`python -m bench.harvest`: what a pair costs a harvest, stage by stage, and what as many as MIMLv2 has would cost.

In: the samples' photographs, each with edits of its own. Out: Markdown on stdout. Everything but the download is
measured in processor time of this one process on one thread, so that what else the machine does counts as little as it
can; the download in seconds of the clock, from a server on loopback: our side of it, not the network's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
import torch

from bench.__main__ import ROOT, busy_share, machine, say
from services.clients.fetch import Fetcher
from services.core.intake.examine import Limits
from services.core.pixels import open_image
from trainer.harvest import looking
from trainer.harvest.annotating import Annotating, annotate, annotator_name
from trainer.harvest.fetching import Web, fetch, found
from trainer.harvest.journal import Facts, Journal, Store
from trainer.harvest.lanes import Pace
from trainer.harvest.sources import Source

MIMLV2 = 246_212
"""Pairs that the paper annotated (arXiv 2508.20987)."""

POOL = 100_000  # originals that a forged picture is sought among
SIDE = 1024
DEFAULT_DELAY_S = Pace().delay_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.harvest", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="pairs that are measured")
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 16, 64], help="cores to tell the days for")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    busy = busy_share(1.0)
    with tempfile.TemporaryDirectory(prefix="pentimento-harvest-") as folder:
        costs = measured(Path(folder), options.pairs)
    print(page(costs, options.pairs, options.cores, f"{machine()}, {busy:.0%} busy with other work before"))
    return 0


def measured(folder: Path, count: int) -> dict[str, float]:
    """Seconds that a pair costs, by stage. Two pictures are fetched and looked at; one is sought and verified."""
    pictures = folder / "pictures"
    pictures.mkdir()
    forged, originals = made(pictures, count)
    store = Store(folder / "cache")
    costs = {}
    with served(pictures) as site, Journal(folder / "fetched.jsonl") as journal:
        sources = [Source(f"{site}/{name}") for name in [*forged, *originals]]
        say(f"fetching {len(sources)} pictures")
        began = perf_counter()
        fetch(
            sources, store, journal, Web(partial(_fetcher, site), Pace(delay_s=0.0)), Limits().max_bytes, lambda: None
        )
        costs["fetch"] = (perf_counter() - began) / count
        digests = [found(source, store, journal)["sha256"] for source in sources]
    seen, costs["look"] = _timed(partial(looking.look, store, Limits()), digests, count)
    uploads, among = seen[:count], looking.originals([*seen[count:], *_strangers(POOL)])
    near, costs["search"] = _timed(among.near, uploads, count)
    say("verifying and annotating")
    candidates = [
        looking.Near(facts["sha256"], tuple(one for one in each if one[1] in store))
        for facts, each in zip(uploads, near, strict=True)
    ]
    paired, costs["verify"] = _timed(partial(looking.pair, store), candidates, count)
    how = Annotating(store, folder, annotator_name(flips=True, side=SIDE), flips=True, side=SIDE)
    pairs = [
        (facts["sha256"], said["original"]) for facts, said in zip(uploads, paired, strict=True) if said["original"]
    ]
    _, costs["annotate"] = _timed(partial(annotate, how), pairs, len(pairs))
    return costs


def page(costs: dict[str, float], pairs: int, cores: Sequence[int], where: str) -> str:
    """The measured costs, and those of MIMLV2 pairs, as Markdown."""
    named = ("fetch", "look", "search", "verify", "annotate")
    days = "".join(f" days on {number} |" for number in cores)
    lines = [f"{pairs} pairs of about one megapixel, {where}.", ""]
    lines += [f"| stage | s a pair, one core | pairs an hour | core hours for {MIMLV2:,} |{days}"]
    lines += ["| --- " * (4 + len(cores)) + "|"]
    sums = {"a list of pairs": ("fetch", "look", "annotate"), "two pools": named}
    for name, stages in {**{stage: (stage,) for stage in named}, **sums}.items():
        seconds = sum(costs[stage] for stage in stages)
        hours = seconds * MIMLV2 / 3600
        told = "".join(f" {hours / 24 / number:,.2f} |" for number in cores)
        lines.append(f"| {name} | {seconds:.4f} | {3600 / seconds:,.0f} | {hours:,.1f} |{told}")
    polite = 2 * MIMLV2 * DEFAULT_DELAY_S / 86_400
    lines += [
        "",
        f"At {DEFAULT_DELAY_S:g} s between two requests one host delivers two pictures a pair in {polite:.1f} days.",
    ]
    return "\n".join(lines)


def made(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Forgeries and their originals as JPEG files in a folder, by name, in the same order, each pair of its own."""
    photos = [*sorted((ROOT / "samples").glob("originals/*.jpg")), *sorted((ROOT / "samples").glob("donors/*.jpg"))]
    forged, originals = [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        whole = open_image(photos[number % len(photos)].read_bytes()).rgb
        cut = number // len(photos) * 16  # another crop each time round, so that no two originals are the same
        original = np.ascontiguousarray(whole[cut:, cut:])
        picture = original.copy()
        top, left = (int(rng.integers(0, side // 2)) for side in picture.shape[:2])
        patch = picture[top : top + 150, left : left + 200]
        patch[:] = patch[:, :, ::-1] // 2 + 90
        for name, rgb, names in ((f"f{number}.jpg", picture, forged), (f"o{number}.jpg", original, originals)):
            cv2.imwrite(str(folder / name), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            names.append(name)
    return forged, originals


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server of the folder's files on loopback. Gives its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _fetcher(site: str) -> Fetcher:
    return Fetcher(
        allowed_hosts=["127.0.0.1"], max_bytes=Limits().max_bytes, timeout_s=60, allow_http=True,
        ports=(int(site.rpartition(":")[2]),), allowed_networks=("127.0.0.1/32",),
    )  # fmt: skip


def _strangers(count: int) -> Iterator[Facts]:
    """Hashes of pictures that are none, to seek among."""
    for bits in np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8):
        yield {"sha256": "", "pdq": bits.tobytes().hex(), "pdq_quality": 100}


def _timed(work: Callable[[Any], Any], items: Iterable[Any], pairs: int) -> tuple[list[Any], float]:
    """What `work` makes of the items, and its processor time in seconds for one of the pairs."""
    began = process_time()
    made_of = [work(item) for item in items]
    return made_of, (process_time() - began) / pairs


if __name__ == "__main__":
    raise SystemExit(main())
