"""The processes of a fit: one, or many GPUs and nodes, by Hugging Face's `accelerate`.

In: what a launcher (`accelerate launch`, `torchrun`) put into the environment; without one, a single process. Out:
`Crew`: which process this is, what device it has, and the few things that processes must do together. Networks are
small enough to be whole on every GPU, so gradients are averaged (distributed data parallel) and nothing is split.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast
from torch import Tensor, nn

PATIENCE = timedelta(hours=1)
"""How long processes wait for one another: one of them scores hard examples and draws sheets while the others wait."""


class Crew:
    """All processes that work on one fit. `rank` of `world`; `first` is the one that keeps and writes everything."""

    def __init__(self, device: str) -> None:
        """Joins the others, where a launcher started several. `device` is "cpu" or "cuda"."""
        cpu = torch.device(device).type == "cpu"
        self._accelerator = Accelerator(
            cpu=cpu,
            mixed_precision="no",  # `step` casts by itself, the same with and without processes beside it
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        self.first: bool = self._accelerator.is_main_process
        self.device = str(self._accelerator.device) if self.world > 1 else device

    def shared(self, network: nn.Module, *, compiled: bool) -> nn.Module:
        """The network as it is called in a fit: compiled where wanted, its gradients averaged over all processes."""
        called: Any = torch.compile(network) if compiled else network
        shared: nn.Module = called if self.world == 1 else self._accelerator.prepare_model(called)
        return shared

    def alone(self, network: nn.Module) -> AbstractContextManager[None]:
        """Gradients of a pass in it stay in this process: for all passes of a step but the last."""
        if self.world == 1:
            return nullcontext()
        apart: AbstractContextManager[None] = self._accelerator.no_sync(network)
        return apart

    def mean(self, value: float) -> float:
        """The mean of a number over all processes, which all must ask for."""
        if self.world == 1:
            return value
        every: Tensor = self._accelerator.reduce(torch.tensor(value, device=self.device), "mean")
        return float(every)

    def from_first(self, values: np.ndarray) -> np.ndarray:
        """The float64 array that the first process has, in all of them; it has one shape everywhere."""
        if self.world == 1:
            return values
        shared: Tensor = broadcast(torch.from_numpy(values).to(self.device))
        return shared.cpu().numpy()

    def agreed(self, step: int) -> None:
        """Raises ValueError in all processes where they do not stand at the same step."""
        if self.world == 1:
            return
        mine = torch.tensor([step], device=self.device)
        steps = self._accelerator.gather(mine).tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes stand at steps {steps}: every node must see the same checkpoint. Let --out lie in a "
                "folder that all nodes share"
            )

    def wait(self) -> None:
        """Until all are here."""
        self._accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Parts from the others, at the end of the program."""
        self._accelerator.end_training()
