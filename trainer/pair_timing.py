"""Where the time of a pair goes: `python -m trainer.pair_timing`.

In: a pair of 1024 x 768 pixels made from a sample photograph, or `--upload` and `--original`. Out: a table of the
parts' medians on one thread, the whole, and the most memory that this process took.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model_archive import preprocess
from model_archive.handlers import pairing
from model_archive.handlers.analysis import MAX_SIDE, Model, constrained_model
from model_archive.handlers.results import Analysis, PairRequest
from model_archive.networks.registry import GRANULE
from services.core.errors import Broken
from services.core.pixels import open_image
from services.core.placement import Placement, place, place_objects

SAMPLE = Path(__file__).parents[1] / "samples" / "originals" / "windmill.jpg"
FRAME = (1024, 768)


def sample_pair() -> PairRequest:
    """A photograph of 1024 x 768, and a smaller, turned, recompressed and edited copy enlarged to the same size."""
    picture = cv2.resize(open_image(SAMPLE.read_bytes()).rgb, FRAME, interpolation=cv2.INTER_AREA)
    forged = picture.copy()
    forged[200:420, 300:560] = forged[400:620, 600:860]
    turn = cv2.getRotationMatrix2D((FRAME[0] / 2, FRAME[1] / 2), 3.0, 1.05)
    forged = cv2.warpAffine(forged, turn, FRAME, flags=cv2.INTER_CUBIC)
    return PairRequest(_jpeg(forged, 75), _jpeg(picture, 92))


def parts(model: Model[PairRequest], request: PairRequest) -> dict[str, Callable[[], Any]]:
    """What a pair goes through, by name; each can be called alone and again."""
    upload = open_image(request.upload, max_side=MAX_SIDE).rgb
    original = open_image(request.original, max_side=pairing.ORIGINAL_SIDE).rgb
    whole = place(original, upload)
    if whole is None:
        raise Broken("the two pictures could not be laid onto each other: give a pair that belongs together")
    laid = pairing.laid_onto(original, upload, whole)
    x = preprocess.padded(preprocess.pair_input(upload, laid.rgb, laid.valid), GRANULE)[None]
    batch = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    difference = model.networks["difference"].network
    classifier = model.networks["pair_kind"].network
    answer = model.analyse([request])[0]
    if not isinstance(answer, Analysis):
        raise Broken(answer.message)

    def forward() -> Any:
        with torch.inference_mode():
            return difference(batch).mask

    def placed() -> Placement | None:
        return place(original, upload)

    return {
        "open both files": lambda: (open_image(request.upload), open_image(request.original)),
        "lay the original onto the upload (features, homography, refinement)": placed,
        "... where the map is known already (refinement alone)": lambda: place(original, upload, whole.homography),
        "tell the kind of pair": lambda: pairing.kind_scores(pairing.looked_at(upload, laid), classifier),
        "match colours, nine channels": lambda: preprocess.pair_input(upload, laid.rgb, laid.valid),
        "difference network": forward,
        "mask as PNG": answer.body,
        "seek objects (only where the main area is another)": lambda: place_objects(original, upload),
        "everything": lambda: model.analyse([request]),
    }


def median_s(work: Callable[[], Any], rounds: int) -> float:
    """Median seconds of a piece of work, after one round that does not count."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def main(arguments: list[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.pair_timing", description=__doc__)
    parser.add_argument("--upload", type=Path, help="image file (with --original)")
    parser.add_argument("--original", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if (options.upload is None) != (options.original is None):
        parser.error("--upload and --original belong together")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    given = options.upload is not None
    request = PairRequest(options.upload.read_bytes(), options.original.read_bytes()) if given else sample_pair()
    model = constrained_model()
    found = {name: median_s(work, options.rounds) for name, work in parts(model, request).items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.json:
        print(json.dumps({"seconds": {name: round(s, 4) for name, s in found.items()}, "peak_mb": round(peak)}))
        return 0
    table = Table("part", "ms")
    for name, seconds in found.items():
        table.add_row(name, f"{seconds * 1000:.0f}")
    console = Console(width=110)
    console.print(table)
    where = f"{platform.machine()}, {options.threads} thread(s)"
    console.print(f"{time.strftime('%Y-%m-%d')}, {where}; peak memory {peak:.0f} MB; {model.version}")
    return 0


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


if __name__ == "__main__":
    raise SystemExit(main())
