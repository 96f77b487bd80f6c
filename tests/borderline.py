"""Which kept sets hang on rounding: there fp32 and fp64 may rightly disagree.

A set (one layer, row and score head) is borderline if in fp64 an instruction token's attention is
about alpha times the maximum, the deciding fractions of the row's budgets are about equal, or the
last score that stays and the first that goes are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aircache_ext import reference
from cases import Case, Inputs

BUDGET_GAP = 1e-3  # of a token
SCORE_GAP = 1e-4  # relative


def elite_gap(dtype: torch.dtype) -> float:
    return 1e-4 if dtype == torch.float32 else 1e-2


def borderline_sets(case: Case, x: Inputs, options: dict) -> Tensor:
    """``[L, B, H]`` bool for ``compress_layers(*x.cache, **x.masks, **options)``."""
    scale, alpha = options.get("scale"), options.get("alpha", 0.9)
    attention = reference.instruction_attention(x.queries, x.keys, scale=scale, **x.masks)
    elite = reference.elite_window(attention, alpha=alpha, **x.masks)
    scores = reference.window_scores(
        x.queries, x.keys, elite, scale=scale, heads=options.get("heads", "shared"), **x.masks
    )
    statistics = reference.moments(scores, **x.masks)
    names = ("retention", "budget", "capacity", "budget_mode")
    given = {name: options[name] for name in names if name in options}
    budgets = reference.layer_budgets(*statistics, window=elite.shape[2], **given, **x.masks)

    rows = _elite(attention, alpha, elite_gap(case.dtype)).any(0)
    if given.get("budget_mode") not in ("uniform", "pyramid"):  # those follow no statistics
        rows |= _budgets(statistics, budgets, x, given)
    return rows[None, :, None] | _scores(scores, budgets, x)


def _elite(attention: Tensor, alpha: float, gap: float) -> Tensor:
    """``[L, B]``. The maximum itself is in whatever happens, and alpha = 0 takes everything."""
    share = attention / attention.amax(-1, keepdim=True)
    near = ((share - alpha).abs() < gap) & (attention > 0)
    near.scatter_(-1, attention.argmax(-1, keepdim=True), False)
    return near.any(-1) & (alpha > 0)


def _budgets(statistics, budgets: Tensor, x: Inputs, given: dict) -> Tensor:
    """``[B]``: two layers' fractions are close and only one of them gets the extra token."""
    layers, batch = budgets.shape
    result = torch.zeros(batch, dtype=torch.bool)
    text = (x.valid & ~x.visual).sum(1)
    seen = (x.valid & x.visual).sum(1)
    mode = given.get("budget_mode", "strength+skewness")
    capacity = given.get("capacity", 10**6)
    slots = torch.tensor(capacity if isinstance(capacity, (list, tuple)) else [capacity] * layers)
    for row in range(batch):
        if seen[row] == 0:
            continue
        caps = (slots - text[row]).clamp(max=seen[row]).clamp(min=1).tolist()
        weights = reference.layer_weights(*(column[:, row] for column in statistics), mode)
        targets = reference.layer_targets(weights, caps, int(budgets[:, row].sum()))
        extra = budgets[:, row] > targets.floor() + 1e-9
        fraction = targets % 1
        if extra.any() and not extra.all():
            result[row] = fraction[extra].min() - fraction[~extra].max() < BUDGET_GAP
    return result


def _scores(scores: Tensor, budgets: Tensor, x: Inputs) -> Tensor:
    """``[L, B, H]``. Scores of zero are exactly zero in fp32 too: rows without an instruction."""
    seen = x.valid & x.visual
    ranked = scores.masked_fill(~seen[:, None], -1.0).sort(-1, descending=True).values
    last = (budgets[:, :, None, None] - 1).clamp(min=0).long().expand(*scores.shape[:3], 1)
    stays = ranked.gather(-1, last)
    goes = ranked.gather(-1, (last + 1).clamp(max=scores.shape[3] - 1))
    decided = (budgets == 0) | (budgets >= seen.sum(1))
    close = ((stays - goes) <= SCORE_GAP * stays) & (stays > 0)
    return close.squeeze(-1) & ~decided[:, :, None]
