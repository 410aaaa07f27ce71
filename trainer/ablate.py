"""What each view of a picture is worth to the single-image network: `python -m trainer.ablate --photos DIR`.

In: fitted weights and photographs never fitted on (split `test`). Out: a table of pixel F1 and image AUC on generated
pictures with one view taken away each: its channels are set to their mean over the picture, so that they say nothing of
where. The network is not fitted anew, so a view may look worth less than it is where another one says the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from model_archive import weights
from model_archive.networks.inputs import GROUPS
from model_archive.networks.web_iml import WebImlNetwork
from trainer import metrics
from trainer.data import single_example
from trainer.synthesis.photos import PhotoPool

SIDE = 384
Flatten = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Worth:
    """What is left without a view: mean pixel F1 at 0.5 of the forged pictures, and the AUC of the image score."""

    without: str
    f1: float
    f1_low: float
    f1_high: float
    image_auc: float


def flat(x: Tensor, first: int, last: int) -> Tensor:
    """[B,C,H,W] with the channels first..last-1 set to their means over the picture."""
    changed = x.clone()
    changed[:, first:last] = x[:, first:last].mean((2, 3), keepdim=True)
    return changed


def views() -> dict[str, tuple[str, Flatten]]:
    """By name: the part of the network whose result is flattened, and how."""
    found: dict[str, tuple[str, Flatten]] = {"nothing": ("statistics", lambda x: x)}
    start, total = 0, sum(GROUPS.values())
    for name, width in GROUPS.items():
        first, last = start, start + width
        found[name] = (
            "statistics",
            lambda x, a=first, b=last: flat(flat(x, a, b), total + a, total + b),  # type: ignore[misc]
        )
        start = last
    found["z-scores of blocks"] = ("statistics", lambda x: flat(x, total, 2 * total))
    found["all of the blocks"] = ("statistics", lambda x: flat(x, 0, x.shape[1]))
    found["residuals at full size"] = ("residuals", lambda x: flat(x, 0, x.shape[1]))
    return found


def worth(network: WebImlNetwork, pool: PhotoPool, *, count: int, seed: int, console: Console) -> list[Worth]:
    """The table's rows: the whole network first. `count` pictures, half of them forged."""
    examples = [single_example(pool, seed, index, SIDE) for index in range(count)]
    rows = []
    for name, (part, change) in views().items():
        hook = getattr(network, part).register_forward_hook(lambda _m, _i, out, change=change: change(out))
        f1, scores, forged = [], [], []
        for x, mask in track(examples, f"without {name}", console=console):
            with torch.inference_mode():
                out = network(torch.from_numpy(x)[None].contiguous(memory_format=torch.channels_last))
            scores.append(float(out.image[0]))
            forged.append(bool(mask.any()))
            if forged[-1]:
                f1.append(metrics.mask_scores(torch.sigmoid(out.mask[0, 0]).numpy(), mask).f1)
        hook.remove()
        low, high = metrics.interval(np.array(f1))
        area = metrics.auc(np.array(scores), np.array(forged))
        rows.append(Worth(name, float(np.mean(f1)), low, high, area))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.ablate", description=__doc__)
    parser.add_argument(
        "--photos", type=Path, action="append", help="folder of photographs (default: samples/originals)"
    )
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="folder of label maps, same stems")
    parser.add_argument("--split", choices=("held_out", "test", "all"), default="test")
    parser.add_argument("--weights", type=Path, default=weights.default_path("web_iml"))
    parser.add_argument("--count", type=int, default=300, help="generated pictures, every second one forged")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pool = PhotoPool.scan(options.photos or [Path("samples/originals")], options.outlines, split=options.split)
    network = weights.load(options.weights).network
    assert isinstance(network, WebImlNetwork)
    rows = worth(network, pool, count=options.count, seed=options.seed, console=Console(stderr=True))
    if options.json:
        print("\n".join(json.dumps(asdict(row)) for row in rows))
        return 0
    table = Table("without", "pixel F1", "95 %", "image AUC")
    for row in rows:
        table.add_row(row.without, f"{row.f1:.3f}", f"{row.f1_low:.2f}-{row.f1_high:.2f}", f"{row.image_auc:.3f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
