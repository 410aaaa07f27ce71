"""What is known about a file of weights, without torch: its card, its version, where it lies.

In: a path of a safetensors file. Out: its `Card`. It exists apart from `weights` so that archives can be built and
versions told by processes that never load a network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from services.core.errors import Broken

FOLDER = Path(__file__).parent / "weights"
FORMAT = "pentimento-weights-1"


@dataclass(frozen=True, slots=True)
class Card:
    """What travels with weights. `temperature` and `bias` turn the image logit z into the score sigmoid(z/t + b).

    `mask_bias` is added to every pixel's logit: with it, authentic photographs are flagged at 0.5 within a budget.
    `score_at_fpr_1` and `score_at_fpr_5` are the scores that 1 % and 5 % of generated authentic pictures exceed;
    `mask_threshold` is the probability from which on a pixel counts as flagged.
    """

    network: str
    version: str
    temperature: float = 1.0
    bias: float = 0.0
    mask_bias: float = 0.0
    mask_threshold: float = 0.5
    score_at_fpr_1: float = 0.5
    score_at_fpr_5: float = 0.5
    seed: int = 0
    steps: int = 0
    samples: int = 0
    code_sha256: str = ""
    data_sha256: str = ""
    dataset: str = ""  # version of the samples that a share of the pictures came from, if any
    backbone_sha256: str = ""  # of the file that a pretrained backbone was taken from, if any
    started_from: str = ""  # version of the weights that the fit went on from, if any
    command: str = ""
    fitted_on: str = ""

    def metadata(self) -> dict[str, str]:
        """The card as a safetensors file carries it."""
        return {"format": FORMAT, "card": json.dumps(asdict(self), sort_keys=True)}

    def version_with(self, digest: str) -> str:
        """`<semver>+<first 12 hex of the file's SHA-256>`, the version that every verdict names."""
        return f"{self.version}+{digest[:12]}"


def default_path(name: str, folder: Path | None = None) -> Path:
    """Where the weights of a network lie: in `folder`, or among the shipped ones."""
    return (folder or FOLDER) / f"{name}.safetensors"


def read(path: Path) -> Card:
    """The card of a file. Raises Broken where the file is missing, damaged or of another make."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        if metadata is None or metadata.get("format") != FORMAT:
            raise ValueError(f"not in the format {FORMAT}")
        return Card(**json.loads(metadata["card"]))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise Broken(f"{path} holds no usable weights: {error}. Fit them again or restore the file.") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
