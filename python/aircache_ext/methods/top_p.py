"""Layer budgets by a common share of attention: top-p over the layers."""

import math

import torch
from torch import Tensor

# Masses become multiples of 2**-40, so that their sums are exact, in any order and on any device.
_UNIT = 2**40


def top_p_budgets(mass: Tensor, counted: Tensor, most: Tensor, total: Tensor) -> Tensor:
    """How many tokens each layer needs for the share p of its mass, with p such that all together
    need ``total``.

    ``R_l(p)`` is the smallest o with ``P_l(o) >= p``, where ``P_l(o)`` is the share that the o
    largest masses hold. As p grows past ``P_l(o)``, layer l takes one token more. So nothing needs
    to be bisected: every layer has one token, and the ``total - L`` smallest of all ``P_l(o)`` give
    theirs one more. Of equal ones the lower layer's come first.

    Args:
        mass: ``[L, B, S]``, not negative. NaN is none; a layer without any has all tokens alike.
        counted: ``[B, S]`` bool, which tokens count.
        most: ``[L, B]`` int, no layer gets more; 0 only in rows where nothing is counted.
        total: ``[B]`` int, no more than the sum of ``most`` and no less than a token a layer.

    Returns:
        ``[L, B]`` int32 with the sums ``total``.
    """
    layers, batch, seq = mass.shape
    mass = mass.double().nan_to_num(nan=0.0) * counted
    alike = counted.double().expand_as(mass)
    mass = torch.where(mass.sum(-1, keepdim=True) > 0, mass, alike)
    share = mass / mass.sum(-1, keepdim=True).clamp(min=math.ulp(0.0))
    largest = (share * _UNIT).round().long().sort(-1, descending=True).values
    prefix = largest.cumsum(-1)  # P_l(o) for o = 1 .. S
    tokens = torch.arange(1, seq + 1, device=mass.device)
    prefix = prefix.masked_fill(tokens >= most[:, :, None], 2 * seq * _UNIT)
    order = prefix.transpose(0, 1).flatten(1).argsort(dim=1, stable=True)  # [B, L * S]
    more = torch.arange(layers * seq, device=mass.device) < (total - layers)[:, None]
    budgets = torch.ones(batch, layers, dtype=torch.int64, device=mass.device)
    budgets.scatter_add_(1, order // seq, more.long())
    return budgets.T.minimum(most).int().contiguous()
