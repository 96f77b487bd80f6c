"""PyramidKV: SnapKV, with budgets that fall with depth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext import _checks
from aircache_ext.methods import always
from aircache_ext.methods.amount import Amount
from aircache_ext.methods.method import Seen, Tokens
from aircache_ext.methods.snapkv import SnapKV


@dataclass(frozen=True, kw_only=True)
class PyramidKV(SnapKV):
    """PyramidKV (arXiv 2406.02069): SnapKV's choice; the lower a layer, the more it keeps.

    Beside the ``window_size`` last tokens the last layer keeps ``1 / beta`` of the average, the
    first what makes up for it, the others what lies between.

    The budgets are those of the public code (Zefan-Cai/KVCache-Factory), whole-number divisions
    included, so that the total may be a few tokens off; the average is rounded, halves up. All
    layers keep equally many if that is more than half of the tokens beside the window, or if there
    is but one layer. kvpress counts the window as part of the falling budget, and makes all layers
    alike wherever the last one would then keep less than a window: at its own defaults, wherever
    fewer than 1,280 tokens and less than half of the prompt stay. Text competes in paper and code:
    ``evict_text=True``.

    Args:
        beta: at least 1.
        window_size, kernel_size, pooling, heads, evict_text: as in ``SnapKV``.
    """

    beta: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.check_count("beta", self.beta)

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        evictable = self.evictable(tokens) & tokens.readable
        n = evictable.sum(1)  # [B]
        window = (evictable & always.last(tokens.readable, self.window_size)).sum(1)
        average = (amount.average(n) + 0.5).floor().long() - window  # beside the window
        least = average // self.beta
        most = 2 * average - least
        full = most >= n - window
        most = torch.where(full, n - window, most)
        least = torch.where(full, 2 * average - most, least)
        step = (most - least) // max(layers - 1, 1)
        depth = torch.arange(layers, device=n.device)[:, None]
        falls = (average > 0) & (2 * average <= n) & (layers > 1)
        budgets = torch.where(falls, most - depth * step, average)
        limit = amount.most(layers, self.evictable(tokens), tokens.valid)
        return (budgets + window).clamp(min=1).minimum(limit).int()
