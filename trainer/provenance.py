"""Where weights come from: a hash of the code that decides a fit, and the machine it ran on."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import torch

SOURCES = (
    "model_archive/networks",
    "model_archive/preprocess.py",
    "trainer/calibrate.py",
    "trainer/data.py",
    "trainer/feed.py",
    "trainer/fit.py",
    "trainer/fit_settings.py",
    "trainer/fit_state.py",
    "trainer/loss.py",
    "trainer/mining.py",
    "trainer/processes.py",
    "trainer/profiles",
    "trainer/samples/reading.py",
    "trainer/schedule.py",
    "trainer/scoring.py",
    "trainer/sources.py",
    "trainer/synthesis",
)
"""What decides a fit's result; their hash travels with the weights."""


def code_digest() -> str:
    """SHA-256 over the sources that decide what a fit does."""
    root = Path(__file__).resolve().parents[1]
    files = [
        f
        for place in SOURCES
        for f in ([root / place] if place.endswith(".py") else (root / place).rglob("*"))
        if f.suffix in (".py", ".toml")
    ]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def machine(device: str, *, threads: int, processes: int) -> str:
    """What a fit runs on, in words."""
    several = f"{processes} x " if processes > 1 else ""
    if torch.device(device).type == "cuda":
        return f"{several}{torch.cuda.get_device_name()}"
    return f"{several}{platform.machine()}, {threads} thread(s)"


def has_bfloat16(device: str) -> bool:
    """Whether the processor computes in bfloat16 faster than in float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
