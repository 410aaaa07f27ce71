"""Weights on disk: safetensors with what is known about them, never pickle.

In: a path. Out: a network ready to answer, its `Card` (how it was fitted and calibrated) and its version string. The
networks themselves touch no files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from model_archive.networks import registry
from services.core.errors import Broken

FOLDER = Path(__file__).parent / "weights"
FORMAT = "pentimento-weights-1"


@dataclass(frozen=True, slots=True)
class Card:
    """What travels with weights. `temperature` and `bias` turn the image logit z into the score sigmoid(z/t + b).

    `score_at_fpr_1` and `score_at_fpr_5` are the scores that 1 % and 5 % of generated authentic pictures exceed.
    """

    network: str
    version: str
    temperature: float = 1.0
    bias: float = 0.0
    mask_threshold: float = 0.5
    score_at_fpr_1: float = 0.5
    score_at_fpr_5: float = 0.5
    seed: int = 0
    steps: int = 0
    samples: int = 0
    code_sha256: str = ""
    data_sha256: str = ""
    command: str = ""
    fitted_on: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network in evaluation mode with its card. `version` is `<semver>+<first 12 hex of the file's SHA-256>`."""

    network: nn.Module
    card: Card
    version: str


def default_path(name: str) -> Path:
    """Where the shipped weights of a network lie."""
    return FOLDER / f"{name}.safetensors"


def save(network: nn.Module, card: Card, path: Path) -> None:
    """Writes parameters and buffers as float16 (parameters) and float32 (buffers), with the card as metadata."""
    parameters = {name for name, _ in network.named_parameters()}
    tensors = {
        name: (value.detach().to(torch.float16) if name in parameters else value.detach()).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": FORMAT, "card": json.dumps(asdict(card), sort_keys=True)})
    path.chmod(0o644)  # safetensors writes files that only their owner can read


def load(path: Path) -> Loaded:
    """The network that a file holds. Raises Broken where the file is missing, damaged or of another make."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(path, framework="pt", device="cpu") as file:
            card = read_card(file.metadata(), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        network = registry.build(card.network)
        network.load_state_dict({name: _widened(value) for name, value in tensors.items()})
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise Broken(f"{path} holds no usable weights: {error}. Fit them again or restore the file.") from error
    network = network.eval().requires_grad_(False)
    return Loaded(network, card, f"{card.version}+{digest[:12]}")


def read_card(metadata: dict[str, str] | None, path: Path) -> Card:
    """The card in a file's metadata. Raises ValueError for another format."""
    if metadata is None or metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not in the format {FORMAT}")
    return Card(**json.loads(metadata["card"]))


def _widened(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype is torch.float16 else value
