"""What is compared, by name. Each is made for a case and then called with inputs."""

from collections.abc import Callable
from typing import TypeVar

import torch

import aircache_ext
import plain_torch
import repeat_kv
from cases import Case
from inputs import Inputs

RETENTION = 0.1  # the paper's figure

OURS = "aircache_ext"
PLAIN = "plain torch"
PLAIN_HALF = "plain torch, half-precision products"  # not quite the same method
COMPILED = "torch.compile"
REPEAT_KV = "repeat_kv, all rows"
NAMES = (OURS, PLAIN, PLAIN_HALF, COMPILED, REPEAT_KV)

Call = TypeVar("Call", bound=Callable)


def names_for(dtype: torch.dtype) -> list[str]:
    return [name for name in NAMES if name != PLAIN_HALF or dtype != torch.float32]


def make(name: str, case: Case) -> Callable[[Inputs], object]:
    if name == OURS:
        return lambda inputs: aircache_ext.compress_layers(
            inputs.keys,
            inputs.values,
            inputs.q_windows,
            visual=inputs.visual,
            retention=RETENTION,
        )
    if name in (PLAIN, PLAIN_HALF, COMPILED):
        steps = plain_torch.compiled() if name == COMPILED else plain_torch.PLAIN
        return lambda inputs: plain_torch.compress_layers(
            inputs,
            case.text_before,
            retention=RETENTION,
            products=inputs.keys[0].dtype if name == PLAIN_HALF else torch.float32,
            steps=steps,
        )
    if name == REPEAT_KV:
        kept = case.text_before + case.window + round(RETENTION * case.n_visual)
        return lambda inputs: repeat_kv.compress_layers(inputs, kept)
    raise ValueError(f"no variant {name!r}; there are {NAMES}")


def runnable(calls: dict[str, Call], inputs: Inputs) -> tuple[dict[str, Call], dict[str, str]]:
    """Those that can be called here, and what kept the others from it: a GPU's memory may not hold
    all that they need, or a compiler may not be there. Ours may not fail."""
    able: dict[str, Call] = {}
    left_out: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call(inputs)
            able[name] = call
        except Exception as error:
            if name.startswith(OURS):
                raise
            left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"{name} is left out: {left_out[name]}", flush=True)
    return able, left_out
