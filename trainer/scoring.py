"""Scores samples for hard-example mining: a network's loss on each pair of twins.

In: a network, its name, batches of twins side by side. Out: losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data import Batch
from trainer.fit_settings import FitSettings
from trainer.loss import LOSSES


@torch.no_grad()
def twin_losses(
    settings: FitSettings, network: nn.Module, stream: Iterator[Batch], count: int, device: str
) -> np.ndarray:
    """Loss of each of the first `count` twin pairs of a stream, [count] float64; leaves the network as it was."""
    fitting = network.training
    network.eval()
    losses: list[float] = []
    rest: Batch | None = None
    while len(losses) < count:
        batch = next(stream)
        if rest is not None:
            batch = Batch(torch.cat([rest.x, batch.x]), torch.cat([rest.target, batch.target]))
        even = len(batch.x) // 2 * 2
        rest = Batch(batch.x[even:], batch.target[even:]) if even < len(batch.x) else None
        if even == 0:
            continue
        x, target = batch.x[:even].to(device), batch.target[:even].to(device)
        out = network(x)
        for first in range(0, even, 2):
            twins = slice(first, first + 2)
            losses.append(float(LOSSES[settings.network](_part(out, twins), target[twins], settings.loss)))
    network.train(fitting)
    return np.array(losses[:count])


def _part(out: Any, twins: slice) -> Any:
    """What a network answered for some of a batch: a tensor, or a tuple of tensors of which some may be missing."""
    if isinstance(out, Tensor):
        return out[twins]
    return type(out)(*(None if each is None else each[twins] for each in out))
