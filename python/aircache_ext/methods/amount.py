"""How much is to stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aircache_ext import _checks, ops


class Amount(NamedTuple):
    """The arguments of ``compress_layers`` that say how much stays.

    ``evictable`` and ``valid`` are ``[B, S]`` bool in all that follows.
    """

    retention: float | None = None
    budget: int | Tensor | None = None
    capacity: int | Sequence[int] | None = None

    def on(self, device: torch.device) -> Amount:
        budget = self.budget.to(device) if isinstance(self.budget, Tensor) else self.budget
        return self._replace(budget=budget)

    def equal(self, layers: int, evictable: Tensor, valid: Tensor | None) -> Tensor:
        """``[L, B]`` int32: the total in equal parts, as far as capacities allow."""
        nothing = torch.zeros(
            layers, evictable.shape[0], dtype=torch.float64, device=evictable.device
        )
        return ops.layer_budgets(
            nothing,
            nothing,
            visual=evictable,
            valid=valid,
            window=None,
            budget_mode="uniform",
            **self._asdict(),
        )

    def most(self, layers: int, evictable: Tensor, valid: Tensor | None) -> Tensor:
        """``[L, B]`` int32: what could stay, which a capacity limits."""
        return self._replace(retention=1.0, budget=None).equal(layers, evictable, valid)

    def average(self, n: Tensor) -> Tensor:
        """``[B]`` float64: tokens that a layer keeps on average of ``n`` ``[B]`` evictable ones."""
        retention, budget = _checks.check_amount(self.retention, self.budget, len(n), n.device)
        return n.double() * retention if budget is None else budget.double().minimum(n.double())
