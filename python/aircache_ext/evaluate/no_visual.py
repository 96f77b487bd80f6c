"""A control: the answer without the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext.methods import Amount, Method, Prompt, Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class NoVisual(Method):
    """Every visual token goes, whatever the retention: what is right then, the text told."""

    def observe(self, prompt: Prompt) -> Seen:
        nothing = torch.zeros(prompt.tokens.visual.shape, device=prompt.tokens.visual.device)
        return Seen((nothing.expand(len(prompt.keys), -1, -1).unsqueeze(2).contiguous(),))

    def budgets(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        return super().budgets(layers, seen, tokens, amount).zero_()
