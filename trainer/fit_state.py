"""The state of a fit: all that changes from step to step, at step 0 and in a checkpoint.

In: settings, and the processes that fit. Out: `State`, which a checkpoint file holds whole.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model_archive import weights
from model_archive.networks import backbones, registry
from services.core.errors import Broken
from trainer.fit_settings import FitSettings
from trainer.mining import HardExamples
from trainer.processes import Crew


@dataclass(slots=True)
class State:
    """What a checkpoint holds: all that changes from step to step. `called` is the network as the loop calls it: the
    same one, or the same compiled or shared with other processes."""

    network: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer
    called: nn.Module
    hard: HardExamples
    pictures_a_step: int
    step: int = 0
    elapsed_s: float = 0.0
    run_id: str = ""  # of MLflow

    def to_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text only, so that it loads without pickled code."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "pictures_a_step": self.pictures_a_step,
            "run_id": self.run_id,
            **self.hard.to_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continues from `to_dict`. Raises ValueError where the fit took another number of pictures a step."""
        before = saved.get("pictures_a_step", self.pictures_a_step)
        if before != self.pictures_a_step:
            raise ValueError(
                f"the checkpoint took {before} pictures a step, these settings take {self.pictures_a_step} (batch x "
                "accumulate x processes): resume with settings that give the same product"
            )
        self.network.load_state_dict(saved["network"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.hard.restore(saved)
        self.step, self.elapsed_s = saved["step"], saved["elapsed_s"]
        self.run_id = saved.get("run_id", "")


def started(settings: FitSettings, crew: Crew) -> State:
    """A state at step 0: random weights, or those of `settings.start_from`. Raises Broken where these do not fit."""
    network = registry.build(settings.network)
    if settings.start_from is not None:
        champion = weights.load(settings.start_from)
        if champion.card.network != settings.network:
            raise Broken(f"{settings.start_from} holds {champion.card.network}, not {settings.network}")
        network.load_state_dict(champion.network.state_dict())
    if settings.backbone_weights is not None:
        backbones.restore(network, settings.backbone_weights)
    network = network.to(crew.device)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.99))
    averaged = copy.deepcopy(network).requires_grad_(False)
    pictures = settings.batch * settings.accumulate * crew.world
    hard = HardExamples(settings.mining, seed=settings.seed, pictures_a_step=pictures)
    return State(network, averaged, optimiser, network, hard, pictures)


def checkpoint(settings: FitSettings, state: State) -> None:
    """Writes the state whole or not at all."""
    settings.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = settings.checkpoint.with_suffix(".writing")
    torch.save(state.to_dict(), unfinished)
    unfinished.replace(settings.checkpoint)
