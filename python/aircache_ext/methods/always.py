"""Tokens that stay whatever their scores are: sinks, and the most recent ones."""

import torch
from torch import Tensor


def first(readable: Tensor, n: int | Tensor) -> Tensor:
    """The first ``n`` tokens of each row, ``[B, S]`` bool like ``readable``, which leaves padding
    out; ``n`` may be ``[B]``, or ``[L, B]`` for ``[L, B, S]``."""
    return readable & (readable.cumsum(-1) <= _each(n))


def last(readable: Tensor, n: int | Tensor) -> Tensor:
    """The last ``n`` tokens, likewise."""
    return readable & (readable.flip(-1).cumsum(-1).flip(-1) <= _each(n))


def recent(readable: Tensor, budgets: Tensor, share: float) -> Tensor:
    """The last tokens that take ``share`` of each budget ``[L, B]``: ``[L, B, S]`` bool."""
    return last(readable, part(budgets, share))


def _each(n: int | Tensor) -> int | Tensor:
    return n[..., None] if isinstance(n, Tensor) else n


def keep(scores: Tensor, tokens: Tensor) -> Tensor:
    """Scores with which ``tokens`` rank above all others, the later of them higher.

    So if the budget is less than these, the most recent stay, and the budget holds.

    Args:
        scores: ``[L, B, H, S]`` fp32, at most 1.
        tokens: ``[B, S]`` or ``[L, B, S]`` bool.
    """
    position = torch.arange(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    return torch.where(tokens.unsqueeze(-2), 2 + position, scores)


def part(budgets: Tensor, share: float) -> Tensor:
    """``share`` of each budget ``[L, B]``, rounded down."""
    return (budgets.double() * share).floor().int()
