"""Weights on disk: safetensors with what is known about them, never pickle.

In: a path. Out: a network ready to answer, its `Card` (how it was fitted and calibrated) and its version string. The
networks themselves touch no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from model_archive.card import Card, default_path, read, sha256
from model_archive.networks import registry
from services.core.errors import Broken

__all__ = ["Card", "Loaded", "default_path", "load", "save"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network in evaluation mode with its card. `version` is `<semver>+<first 12 hex of the file's SHA-256>`."""

    network: nn.Module
    card: Card
    version: str


def save(network: nn.Module, card: Card, path: Path) -> None:
    """Writes parameters as float16 and buffers as they are, with the card as metadata."""
    parameters = {name for name, _ in network.named_parameters()}
    tensors = {
        name: (value.detach().to(torch.float16) if name in parameters else value.detach()).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=card.metadata())
    path.chmod(0o644)  # safetensors writes files that only their owner can read


def load(path: Path) -> Loaded:
    """The network that a file holds. Raises Broken where the file is missing, damaged or of another make."""
    card = read(path)
    try:
        network = registry.build(card.network)
        network.load_state_dict({name: _widened(value) for name, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise Broken(f"{path} does not fit its network: {error}. Fit it again or restore the file.") from error
    return Loaded(network.eval().requires_grad_(False), card, card.version_with(sha256(path)))


def _widened(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype is torch.float16 else value
