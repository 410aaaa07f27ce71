"""What the single-image model costs: `python -m trainer.single_timing`, or `make bench-web-iml`.

In: nothing, or `--image`; photographs of several sizes are made from the samples. Out: a table with a line per case:
seconds from bytes to the mask as PNG, the plain forward pass of the network over the same pixels beside it, and the
most memory that the process took. Each case runs in a fresh process, so that its memory is its own. A GPU is measured
where there is one: pictures a second, all the way and the forward pass alone. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model_archive.handlers import single, tiling
from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import Analysis, SingleRequest
from model_archive.networks.registry import GRANULE
from services.core.errors import Broken
from services.core.pixels import open_image
from trainer.pair_timing import median_s

SAMPLES = sorted((Path(__file__).parents[1] / "samples" / "originals").glob("*.jpg"))
QUALITY = 92
GPU_BATCH = 16
"""Pictures of one request to the GPU, and of its plain forward pass."""


@dataclass(frozen=True, slots=True)
class Case:
    """Pictures of one size on one device. `goal_s` and `goal_mb` are what it may take, where that is promised."""

    name: str
    width: int
    height: int
    device: str = "cpu"
    threads: int = 1
    pictures: int = 1
    goal_s: float | None = None
    goal_mb: int | None = None


CASES = (
    Case("1024 x 768, one core", 1024, 768, threads=1, goal_s=1.0),
    Case("24 megapixels, two cores", 6000, 4000, threads=2, goal_s=20.0, goal_mb=1536),
    Case("50 megapixels, two cores", 8660, 5774, threads=2),
)
GPU_CASES = tuple(
    Case(f"{side} x {side}, GPU", side, side, device="cuda", threads=os.cpu_count() or 1, pictures=GPU_BATCH)
    for side in (512, 1024)
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Median seconds of all the way (`whole_s`) and of the network alone (`forward_s`), for all pictures of a case;
    `peak_mb` is the process's most resident memory, `notes` what the model said."""

    whole_s: float
    forward_s: float
    peak_mb: float
    version: str
    notes: tuple[str, ...]


def photograph(width: int, height: int, quality: int = QUALITY) -> bytes:
    """A JPEG of that size: the sample photographs side by side at their own resolution, so that it has real detail."""
    canvas = np.empty((height, width, 3), np.uint8)
    pictures = [open_image(path.read_bytes()).rgb for path in SAMPLES]
    top, index = 0, 0
    while top < height:
        left = 0
        tallest = min(*(picture.shape[0] for picture in pictures), height - top)
        while left < width:
            part = pictures[index % len(pictures)][:tallest, : width - left]
            canvas[top : top + tallest, left : left + part.shape[1]] = part
            left, index = left + part.shape[1], index + 1
        top += tallest
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def measured(case: Case, data: bytes, rounds: int) -> Cost:
    """The cost of a case, in this process. `rounds` beside one that does not count; a picture in tiles is looked at
    once, its tiles being rounds enough."""
    torch.set_num_threads(case.threads)
    cv2.setNumThreads(case.threads)
    model = unconstrained_model()
    model.loaded.network.to(case.device)
    requests = [SingleRequest(data)] * case.pictures

    def whole() -> list[Analysis]:
        answers = model.analyse(requests)
        good = [answer for answer in answers if isinstance(answer, Analysis)]
        if len(good) < len(answers):
            raise Broken(f"{case.name}: the model gave no answer")
        for answer in good:
            answer.body()
        return good

    started = time.perf_counter()
    notes = whole()[0].notes
    whole_s = time.perf_counter() - started
    if case.width * case.height <= tiling.WHOLE_PIXELS:
        whole_s = median_s(whole, rounds)
    peak = peak_mb()  # before the bare forward passes, which hold other pixels
    return Cost(whole_s, _forward_s(model, case, rounds), peak, model.version, notes)


def _forward_s(model: Model[SingleRequest], case: Case, rounds: int) -> float:
    """Seconds of the network alone, over inputs that lie on its device already: the limit of what can be reached."""
    alone = case.width * case.height <= tiling.WHOLE_PIXELS
    tiles = tiling.planned(case.width, case.height)
    width, height = (case.width, case.height) if alone else tiles.size
    batch, times = (case.pictures, 1) if alone else (1, tiles.count)
    padded = (-(-side // GRANULE) * GRANULE for side in (height, width))
    x = torch.rand(batch, 4, *padded, device=case.device).contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            model.loaded.network(x)
        if case.device == "cuda":
            torch.cuda.synchronize()

    return median_s(forward, rounds) * times


def peak_mb() -> float:
    """The most memory that this process held, MB. Not by `getrusage`, whose maximum a child takes over from the process
    that started it (Linux: `VmHWM` of proc_pid_status(5))."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def in_fresh_process(case: Case, image: Path, rounds: int) -> Cost:
    """`measured`, in a process of its own. Raises Broken where that fails."""
    command = [sys.executable, "-m", "trainer.single_timing", "--case", json.dumps(asdict(case))]
    command += ["--image", str(image), "--rounds", str(rounds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(case.threads), single.DEADLINE: "inf"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise Broken(f"{case.name}: {done.stderr.strip()[-800:]}")
    values = json.loads(done.stdout.splitlines()[-1])
    return Cost(**values | {"notes": tuple(values["notes"])})


def main(arguments: list[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.single_timing", description=__doc__)
    parser.add_argument("--image", type=Path, help="an image file instead of the generated ones")
    parser.add_argument("--threads", type=int, default=1, help="with --image: threads of the model")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each case; the median counts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # the fresh process
    options = parser.parse_args(arguments)
    if options.case is not None:
        case = Case(**json.loads(options.case))
        print(json.dumps(asdict(measured(case, options.image.read_bytes(), options.rounds))))
        return 0
    found: list[tuple[Case, Cost]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(options.image, options.threads):
            image = options.image or Path(folder) / "photograph.jpg"
            if options.image is None:
                image.write_bytes(photograph(case.width, case.height))
            found.append((case, in_fresh_process(case, image, options.rounds)))
    if options.json:
        print(json.dumps([asdict(case) | asdict(cost) for case, cost in found]))
    else:
        show(found)
    return 0


def _cases(image: Path | None, threads: int) -> tuple[Case, ...]:
    if image is None:
        return CASES + (GPU_CASES if torch.cuda.is_available() else ())
    picture = open_image(image.read_bytes()).as_stored()
    return (Case(image.name, picture.width, picture.height, threads=threads),)


def show(found: list[tuple[Case, Cost]]) -> None:
    """Prints the table, each case with its goals where it has some, and the machine."""
    table = Table("case", "all the way", "network alone", "pictures/s", "network alone", "peak MB", "goal")
    for case, cost in found:
        goals = [] if case.goal_s is None else [f"{case.goal_s:g} s"]
        goals += [] if case.goal_mb is None else [f"{case.goal_mb} MB"]
        rates = [f"{case.pictures / seconds:.2f}" for seconds in (cost.whole_s, cost.forward_s)]
        seconds = [f"{seconds:.2f} s" for seconds in (cost.whole_s, cost.forward_s)]
        table.add_row(case.name, *seconds, *rates, f"{cost.peak_mb:.0f}", ", ".join(goals))
    console = Console(width=120)
    console.print(table)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {gpu}"
    console.print(f"{time.strftime('%Y-%m-%d')}, {machine}; {found[0][1].version}")


if __name__ == "__main__":
    raise SystemExit(main())
