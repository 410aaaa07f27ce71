"""The network for objects pasted elsewhere (SDG): marks what of an upload is the original's object.

In: [B,10,H,W] float32 0..1: the nine channels of the pair with the original laid onto the upload by the *object's* map,
and how densely matches lie about each place; H and W multiples of 32. Out: `Localisation`, whose mask is where the two
show the same. The idea of correlating the two pictures' features and denoising before decoding is that of arXiv
2508.20987; that matches are turned into a map first, and that the decoder then compares aligned pixels, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from model_archive.networks.difference import DifferenceNetwork

CHANNELS = 10


class CorrelationNetwork(DifferenceNetwork):
    """The pair network on ten channels: here what agrees is marked, not what differs."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], fused: int) -> None:
        super().__init__(widths, depths, fused, CHANNELS)
