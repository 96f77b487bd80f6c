"""Pooling along the sequence: a token counts for its neighbours, too."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d

from aircache_ext import _checks
from aircache_ext.methods.method import Tokens

Pooling = Literal["avg", "max"]


def check_pooling(pooling: str, kernel_size: int) -> None:
    _checks.check_choice("pooling", pooling, get_args(Pooling))
    _checks.check_count("kernel_size", kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size} but must be odd")


def pool(scores: Tensor, tokens: Tokens, pooling: Pooling, kernel_size: int) -> Tensor:
    """The mean or the largest of ``kernel_size`` scores around each, with zeros beyond the ends.

    Neighbours are tokens: padding between or beside them is passed over.

    Args:
        scores: ``[L, B, H, S]`` fp32, not negative.
        kernel_size: odd.
    """
    order = None
    if tokens.valid is not None:  # tokens to the front, pooled there, and back
        order = (~tokens.valid).to(torch.uint8).argsort(dim=-1, stable=True)
        order = order[:, None].expand(scores.shape)
        scores = scores.gather(-1, order)  # padding, now behind, has no score
    operator = avg_pool1d if pooling == "avg" else max_pool1d
    pooled = operator(scores.flatten(0, 1), kernel_size, stride=1, padding=kernel_size // 2)
    pooled = pooled.unflatten(0, scores.shape[:2])
    return pooled if order is None else torch.empty_like(pooled).scatter_(-1, order, pooled)
