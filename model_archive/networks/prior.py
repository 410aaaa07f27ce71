"""Prior features: where two pictures show the same thing, told by a network that others trained on many pictures.

In: two pictures [H,W,3] uint8 RGB and `PriorFeatures`, a frozen DINOv2 (Oquab et al., TMLR 2024) of `timm`. Out: pairs
of points that show the same, as exact as a patch is wide. They exist for objects whose local features did not survive:
`services.core.placement` takes them beside its own. Correlating frozen DINOv2 features and suppressing spurious matches
before decoding is the idea of arXiv 2508.20987; the three steps of the suppression (`denoised`) are ours.

Weights come from a file on this machine, never from the network, and are optional: `timm` is imported only by `load`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from torch import Tensor, nn
from torch.nn import functional

from services.core.errors import Broken

ARCHITECTURE = "vit_small_patch14_dinov2"
"""`timm`'s name of the network: 12 blocks, 384 channels, patches of 14 pixels, 22 million parameters."""

PATCH = 14  # pixels of a patch's side
SIDE = 518  # pixels of the longer side that pictures are looked at: what DINOv2 was trained at last, 37 patches
RATIO = 0.9  # distance of the best match to that of the next: lenient, for features of one thing's parts are much alike

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which DINOv2 was trained with
_FAINT = 1e-3  # length of a feature below which it says nothing but rounding errors: of a flat picture all are so
_NEARBY = 4.0  # patches that neighbours in the first picture lie apart at most
_OFF = 1.5  # patches that a neighbour may miss its place by: half a one for each end, and half for what is not rigid
_SUPPORT = 3  # neighbours that must be in their place, at least; one in 200 is by chance, among 37 x 37 patches
_SUPPORT_SHARE = 0.3  # of the neighbours that must be: where matches are dense, three come by chance

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Shape = tuple[int, int]
"""(rows, columns) of patches."""


class PriorFeatures(nn.Module):
    """A frozen vision transformer as an extractor of one feature for each patch.

    `vit` is a network of `timm`'s with patches of PATCH pixels that takes pictures of any size (`dynamic_img_size`);
    `sha256` is that of the file its weights are from, lower-case hexadecimal, for the version of models that use it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, vit: nn.Module, sha256: str) -> None:
        super().__init__()
        self.vit = vit
        self.sha256 = sha256
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """[B,3,H,W] float32 0..1 RGB, H and W multiples of PATCH -> [B,C,H/PATCH,W/PATCH] float32, of length 1 over C.

        Raises ValueError for other sizes.
        """
        batch, _, height, width = rgb.shape
        if height % PATCH or width % PATCH:
            raise ValueError(f"a picture of {height} x {width} pixels has no whole patches of {PATCH}")
        vit: Any = self.vit
        tokens = vit.forward_features((rgb - self.mean) / self.deviation)[:, vit.num_prefix_tokens :]
        shape = batch, -1, height // PATCH, width // PATCH
        return functional.normalize(tokens.transpose(1, 2).reshape(shape), dim=1)


def dinov2() -> nn.Module:
    """DINOv2's smallest network, with random weights. Raises Broken where `timm` is not installed."""
    try:
        import timm
    except ImportError as error:
        raise Broken(f"prior features need timm beside torch: {error}. Install pentimento[models].") from error
    network: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0, dynamic_img_size=True)
    return network


def load(path: Path, architecture: Callable[[], nn.Module] = dinov2) -> PriorFeatures:
    """Features by the weights in a safetensors file, as `timm` names them (float16 is widened).

    Every tensor of the architecture must be there, and no other. Raises Broken where the file is missing or damaged or
    holds another network.
    """
    try:
        content = path.read_bytes()
        weights = {name: value.float() for name, value in tensors_of(content).items()}
    except (OSError, SafetensorError) as error:
        raise Broken(f"{path} holds no prior features: {error}. Name a safetensors file of {ARCHITECTURE}.") from error
    vit = architecture()
    try:
        vit.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        fault = str(error)[:500]  # a wrong file has every tensor wrong, and all of them are listed
        raise Broken(f"{path} does not fit {ARCHITECTURE}: {fault}. Name a file of that network.") from error
    return PriorFeatures(vit, hashlib.sha256(content).hexdigest())


def prior_matches(features: PriorFeatures, original: Pixels, upload: Pixels, side: int = SIDE) -> tuple[Floats, Floats]:
    """Points of an original and of an upload, [h,w,3] and [H,W,3] uint8 RGB, that show the same.

    Returns source and target, [M,2] float32 each: x, y of patches' centres in pixels of the pictures given, pixel
    centres, top left at (0, 0). Both are looked at with `side` pixels on the longer side.
    """
    with torch.inference_mode():
        first, second = (features(_patched(picture, side))[0] for picture in (original, upload))
        shapes = _shape(first), _shape(second)
        matches = denoised(correlate(first, second), *shapes).numpy()
    return _centres(matches[:, 0], shapes[0], original), _centres(matches[:, 1], shapes[1], upload)


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarities [h*w,H*W] float32 -1..1 of every patch of [C,h,w] with every one of [C,H,W], float32 each.

    Each picture's mean feature is taken out first: it is what the picture is of as a whole, and would make all alike.
    """
    return _centred(first).T @ _centred(second)


def denoised(similarity: Tensor, first: Shape, second: Shape, ratio: float = RATIO) -> Tensor:
    """Matches [M,2] int64, indices of patches in the first and the second picture, that are hardly there by chance.

    `similarity` [h*w,H*W] float32 is that of pictures of `first` = (h, w) and `second` = (H, W) patches. A match is

    1. each other's best,
    2. clearly better than the next (Lowe, IJCV 2004): the features' distance, sqrt(2 - 2 s) for unit vectors, is less
       than `ratio` of that of the runner-up, which is sought outside of the 3 x 3 patches about the best, as those show
       the same thing;
    3. consistent with its neighbours (`consistent`).
    """
    matches = _mutual(similarity)
    return consistent(_clear(similarity, matches, second, ratio), first, second)


def consistent(matches: Tensor, first: Shape, second: Shape) -> Tensor:
    """Those of matches [M,2] int64 that are moved as at least three matches, and 30 % of those about them, are.

    As complex numbers, a match i and one of its neighbours j in the first picture tell a turn and a scale,
    z_ij = (t_j - t_i) / (s_j - s_i). The median of z_ij over the neighbours (of real and imaginary parts, which up to
    half of false neighbours cannot spoil) predicts where each neighbour should lie; those that do support i. Unlike a
    common displacement this holds for objects that were turned and resized too.
    """
    if len(matches) <= _SUPPORT:
        return matches[:0]
    source, target = _positions(matches[:, 0], first), _positions(matches[:, 1], second)
    apart, moved = source[None] - source[:, None], target[None] - target[:, None]  # [M,M], from row to column
    near = (apart.abs() > 0) & (apart.abs() <= _NEARBY)
    votes = torch.view_as_real(moved / apart).masked_fill(~near[..., None], torch.nan)
    local = torch.view_as_complex(votes.nanmedian(dim=1).values)  # [M]; NaN without neighbours, and so unsupported
    in_place = near & ((moved - local[:, None] * apart).abs() <= _OFF)
    support = in_place.sum(dim=1)
    return matches[(support >= _SUPPORT) & (support >= _SUPPORT_SHARE * near.sum(dim=1))]


def _mutual(similarity: Tensor) -> Tensor:
    """[M,2] int64 of rows and columns that are each other's best."""
    best, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    rows = torch.arange(len(similarity))
    mutual = back[best] == rows
    return torch.stack([rows[mutual], best[mutual]], dim=1)


def _clear(similarity: Tensor, matches: Tensor, second: Shape, ratio: float) -> Tensor:
    """Those of matches [M,2] that no place apart from the best comes near to."""
    rows, best = matches.unbind(dim=1)
    every = torch.arange(similarity.shape[1])
    columns = second[1]
    down = (every[None] // columns - best[:, None] // columns).abs()
    across = (every[None] % columns - best[:, None] % columns).abs()
    others = similarity[rows].masked_fill((down <= 1) & (across <= 1), -1.0)
    return matches[_distance(similarity[rows, best]) < ratio * _distance(others.amax(dim=1))]


def _distance(similarity: Tensor) -> Tensor:
    """Distance 0..2 of unit vectors with a cosine similarity -1..1."""
    return (2.0 - 2.0 * similarity).clamp(min=0.0).sqrt()


def _centred(features: Tensor) -> Tensor:
    """[C,h,w] -> [C,h*w] less their mean, of length 1; those that hardly differ from it shorter."""
    flat = features.flatten(start_dim=1)
    return functional.normalize(flat - flat.mean(dim=1, keepdim=True), dim=0, eps=_FAINT)


def _positions(indices: Tensor, shape: Shape) -> Tensor:
    """Indices [M] of patches as complex numbers x + iy, in patches. Double, so that no test hangs on rounding."""
    return torch.complex((indices % shape[1]).double(), (indices // shape[1]).double())


def _patched(picture: Pixels, side: int) -> Tensor:
    """A picture [H,W,3] uint8 as [1,3,h,w] float32 0..1, about `side` on its longer side, in whole patches."""
    scale = side / max(picture.shape[:2])
    height, width = (max(1, round(edge * scale / PATCH)) * PATCH for edge in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (width, height), interpolation=how)
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255.0


def _shape(features: Tensor) -> Shape:
    return int(features.shape[1]), int(features.shape[2])


def _centres(indices: npt.NDArray[np.int64], shape: Shape, picture: Pixels) -> Floats:
    """[M,2] float32 x, y of patches' centres in a picture [H,W,...] that is `shape` patches large."""
    height, width = picture.shape[:2]
    x = (indices % shape[1] + 0.5) * (width / shape[1]) - 0.5
    y = (indices // shape[1] + 0.5) * (height / shape[0]) - 0.5
    return np.stack([x, y], axis=1).astype(np.float32)
