"""A control: tokens at equal distances."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext.methods.method import Method, Prompt, Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class Uniform(Method):
    """Keeps every n-th visual token, as a coarser picture would: what any judgement must beat.

    Of n tokens k stay: those at which ``floor(i k / n)`` rises, i = 1 .. n.
    """

    def observe(self, prompt: Prompt) -> Seen:
        nothing = torch.zeros(prompt.tokens.visual.shape, device=prompt.tokens.visual.device)
        return Seen((nothing.expand(len(prompt.keys), -1, -1).unsqueeze(2),))

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        seen = tokens.visual & tokens.readable
        i, n = seen.cumsum(1), seen.sum(1, keepdim=True).clamp(min=1)  # [B, S], [B, 1]
        k = budgets.long()[:, :, None]  # [L, B, 1]
        chosen = i * k // n > (i - 1) * k // n
        return chosen.float().unsqueeze(2)
