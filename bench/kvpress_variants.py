"""What is compared with kvpress, by name: its presses, the same methods in aircache_ext, and
AirCache in plain and compiled torch.

All keep as many tokens, text and window among them. AirCache evicts no instruction, so there the
window is text, and the rest of the tokens is the image; for the other methods all is image.
"""

from __future__ import annotations

from collections.abc import Callable

import kvpress
import torch
from kvpress.utils import compute_n_kept
from torch import Tensor

import aircache_ext
import plain_torch
from cases import Case
from press_inputs import PressInputs
from variants import COMPILED, PLAIN, RETENTION

AIRCACHE = "aircache_ext AirCache"
METHODS = ("SnapKV", "PyramidKV", "TOVA", "StreamingLLM")

Cache = list[tuple[Tensor, Tensor]]


def our_name(method: str) -> str:
    return f"aircache_ext {method}"


def press_name(method: str) -> str:
    return f"kvpress {method}"


# Each with the same method of ours.
COUNTERPARTS = {PLAIN: AIRCACHE, COMPILED: AIRCACHE}
COUNTERPARTS |= {press_name(method): our_name(method) for method in METHODS}
ALIKE = COUNTERPARTS.keys() - {
    press_name("PyramidKV")
}  # whose layers keep other numbers in kvpress


def names() -> list[str]:
    return [AIRCACHE, *map(our_name, METHODS), *COUNTERPARTS]


def kept(case: Case) -> int:
    """Tokens of a layer that stay."""
    return compute_n_kept(case.seq, 1 - RETENTION)


def make(name: str, case: Case, device: torch.device) -> Callable[[PressInputs], Cache]:
    """Called, it gives keys and values of every layer, ``[batch, kv_heads, kept, head_dim]``."""
    if name in (PLAIN, COMPILED):
        return _plain(plain_torch.compiled() if name == COMPILED else plain_torch.PLAIN, case)
    package, method = name.split()
    if package == "kvpress":
        return _press(method, case)
    visual = torch.ones(case.batch, case.seq, dtype=torch.bool, device=device)
    if name == AIRCACHE:
        visual[:, -case.window :] = False
        return _ours(visual, kept(case) - case.window)
    windowed = {"window_size": case.window} if method in ("SnapKV", "PyramidKV") else {}
    return _ours(visual, kept(case), method=getattr(aircache_ext.methods, method)(**windowed))


def _ours(visual: Tensor, budget: int, **options: object) -> Callable[[PressInputs], Cache]:
    def call(inputs: PressInputs) -> Cache:
        compressed = aircache_ext.compress_layers(
            inputs.keys, inputs.values, inputs.q_windows, visual=visual, budget=budget, **options
        )
        return [(layer.keys, layer.values) for layer in compressed]

    return call


def _plain(steps: plain_torch.Steps, case: Case) -> Callable[[PressInputs], Cache]:
    retention = (kept(case) - case.window) / (case.seq - case.window)

    def call(inputs: PressInputs) -> Cache:
        layers = plain_torch.compress_layers(inputs, 0, retention=retention, steps=steps)
        return [(layer.keys, layer.values) for layer in layers]

    return call


def _press(method: str, case: Case) -> Callable[[PressInputs], Cache]:
    options = {"compression_ratio": 1 - RETENTION}
    if method in ("SnapKV", "PyramidKV"):
        options["window_size"] = case.window
    press = getattr(kvpress, f"{method}Press")(**options)

    @torch.no_grad()
    def call(inputs: PressInputs) -> Cache:
        """The part of the hook that is work: ``forward_hook`` of kvpress' ``BasePress``."""
        kwargs = {"position_embeddings": inputs.position_embeddings}
        layers = zip(inputs.modules, inputs.hidden_states, inputs.keys, inputs.values, strict=True)
        return [press.compress(*layer, None, kwargs) for layer in layers]

    return call
