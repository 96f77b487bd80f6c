"""What kvpress kept: sets of its published presses on small random models, with what they saw.

``make_fixture.py`` recorded them; ``formulas.py`` says what each press computes. Reading them needs
no kvpress.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).with_name("kept.npz")


@dataclass(frozen=True)
class Recording:
    """One press on one prompt; lists have one entry per layer."""

    model: str
    """``"llama"`` or ``"qwen2"``."""
    press: str
    """``"SnapKV"``, ``"PyramidKV"``, ``"StreamingLLM"`` or ``"TOVA"``."""
    params: dict[str, float | int]
    """The press' arguments; ``compression_ratio`` is the share that goes."""
    queries: list[Tensor]
    """``[1, Hq, 32, D]`` fp32, rotated: of the last 32 tokens, whatever the press' window."""
    keys: list[Tensor]
    """``[1, Hkv, S, D]`` fp32, rotated: the whole cache before the press."""
    scale: float
    kept: list[Tensor]
    """``[Hkv, n]`` int64, ascending; ``n`` differs from layer to layer with PyramidKV."""
    margin: float
    """Smallest relative gap, in fp64 and over all sets, of the last score that stayed over the
    first that went; infinite where scores decide nothing."""

    def __str__(self) -> str:
        params = ",".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.model}-{self.press}-{params}"


def recordings() -> list[Recording]:
    with np.load(FILE) as arrays:
        facts = json.loads(str(arrays["facts"]))
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays if name != "facts"}
    return [
        Recording(
            model=case["model"],
            press=case["press"],
            params=case["params"],
            queries=list(tensors[f"{case['model']}/queries"][:, None]),
            keys=list(tensors[f"{case['model']}/keys"][:, None]),
            scale=facts["scale"],
            kept=[_positions(layer) for layer in tensors[f"kept/{number}"]],
            margin=case["margin"],
        )
        for number, case in enumerate(facts["cases"])
    ]


def _positions(kept: Tensor) -> Tensor:
    """``[Hkv, S]`` bool -> ``[Hkv, n]`` int64."""
    return kept.nonzero()[:, 1].view(len(kept), -1)
