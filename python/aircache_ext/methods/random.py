"""A control: tokens at random."""

from dataclasses import dataclass

import torch

from aircache_ext import _checks
from aircache_ext.methods.method import Method, Prompt, Seen


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Keeps visual tokens at random, other ones in every layer: what any judgement must beat.

    The same seed chooses the same tokens, on any device and whatever padding there is: what a token
    draws hangs on the seed, its layer and how many tokens of its row come before it.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        _checks.check_seed(self.seed)

    def observe(self, prompt: Prompt) -> Seen:
        ordinal = prompt.tokens.readable.cumsum(1)  # [B, S]
        device = ordinal.device
        layer = torch.arange(len(prompt.keys), device=device)
        if prompt.layers:
            layer = torch.tensor(prompt.layers, device=device)
        drawn = _mix(_mix((layer[:, None, None] << 32) + ordinal) ^ self.seed)
        return Seen(((drawn % (1 << 24)).float().unsqueeze(2),))


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64 in wrapping int64: every bit of x moves half of the others."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, filled with zeros."""
    return (x >> by) & ((1 << (64 - by)) - 1)
