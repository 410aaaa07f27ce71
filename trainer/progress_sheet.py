"""Sample pictures of a fit on its way: what the network makes of the same few samples after every checkpoint.

In: a network, its name, photographs that it is not fitted on. Out: a PNG, a row a sample: the upload, the original
where there is one, the true mask, the network's.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from trainer.data import EXAMPLES, MARKING
from trainer.synthesis.photos import PhotoPool

ROWS = 8


@torch.inference_mode()
def progress_sheet(network: nn.Module, name: str, pool: PhotoPool, target: Path, seed: int, size: int) -> None:
    """Draws the sheet; leaves the network as it was. Does nothing for a network that marks no pixels."""
    if name not in MARKING:
        return
    fitting = network.training
    network.eval()
    rows = [_row(network, *EXAMPLES[name](pool, seed, index, size)) for index in range(ROWS)]
    network.train(fitting)
    cv2.imwrite(str(target), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _row(network: nn.Module, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[S,k*S,3] uint8: pictures of an example, its mask, the network's."""
    device = next(network.parameters()).device
    chance = torch.sigmoid(network(torch.from_numpy(x)[None].to(device)).mask[0, 0]).cpu().numpy()
    pictures = [x[:3], x[3:6]] if len(x) >= 6 else [x[:3]]
    shown = [np.round(part.transpose(1, 2, 0) * 255).astype(np.uint8) for part in pictures]
    grey = [np.repeat(np.round(level * 255).astype(np.uint8)[..., None], 3, axis=2) for level in (mask, chance)]
    return np.hstack([*shown, *grey])
