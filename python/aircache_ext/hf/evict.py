"""The eviction: which of a turn's tokens stay, and moving them, layer by layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aircache_ext import ops
from aircache_ext._compress import token_scores
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.turn import Turn
from aircache_ext.ops import BudgetMode, Heads


def evict(layers: Sequence[CompressedLayer], turn: Turn, **options: Any) -> None:
    """Drops from each layer what the turn's instruction does not look at.

    ``options`` are those of ``compress_layers``. The layers' ``queries`` are used up.
    """
    indices = _choose(layers, turn, **options)
    keeps = [
        _slots_to_keep(layer, index, turn) for layer, index in zip(layers, indices, strict=True)
    ]
    home = layers[0].keys.device
    kept = torch.stack([keep[:, 0].sum(1).to(home) for keep in keeps])  # [layers, batch]
    bounds = torch.stack([kept.amin(1), kept.amax(1)], 1).tolist()
    # One by one, so that no more than one layer exists twice.
    for layer, keep, (least, most) in zip(layers, keeps, bounds, strict=True):
        layer.evict(keep, most, full=least == most)


def _choose(
    layers: Sequence[CompressedLayer],
    turn: Turn,
    *,
    retention: float | None,
    budget: int | Tensor | None,
    alpha: float,
    heads: Heads,
    budget_mode: BudgetMode,
) -> list[Tensor]:
    """The positions within the turn that stay, as ``ops.select`` gives them for each layer.

    An op takes layers of one shape on one device, so they are scored in groups. The budgets are
    those of all layers together: statistics travel between devices, keys do not.
    """
    groups: dict[Any, list[int]] = {}
    for i, layer in enumerate(layers):
        groups.setdefault(_group(layer), []).append(i)
    home = layers[0].keys.device
    scored: list[tuple[list[int], Tensor]] = []
    strength = torch.empty(len(layers), len(turn.visual), dtype=torch.float64, device=home)
    skewness = torch.empty_like(strength)
    window = 0
    for members in groups.values():
        queries = [queries for i in members if (queries := layers[i].queries) is not None]
        window = queries[0].shape[2]
        keys = [layers[i].keys[:, :, _slots(layers[i], turn)] for i in members]
        tokens = turn.on(keys[0].device)
        scores = token_scores(
            keys, queries, alpha=alpha, heads=heads, scale=layers[members[0]].scaling, **tokens
        )
        moments = ops.moments(scores, **tokens)
        strength[members] = moments.strength.to(home)
        skewness[members] = moments.skewness.to(home)
        scored.append((members, scores))
        for i in members:
            layers[i].queries = None
    budgets = ops.layer_budgets(
        strength,
        skewness,
        window=window,
        retention=retention,
        budget=budget,
        budget_mode=budget_mode,
        **turn.on(home),
    )
    chosen: dict[int, Tensor] = {}
    for members, scores in scored:
        indices, _ = ops.select(
            scores, budgets[members].to(scores.device), **turn.on(scores.device)
        )
        chosen.update(zip(members, indices, strict=True))
    return [chosen[i] for i in range(len(layers))]


def _group(layer: CompressedLayer) -> Any:
    """Alike for layers that one call of an op can take."""
    assert layer.queries is not None
    return layer.keys.device, layer.keys.shape[1], layer.queries.shape[1:], layer.scaling


def _slots(layer: CompressedLayer, turn: Turn) -> slice:
    """Nothing has been dropped since the turn began, so its slots follow one another."""
    first = layer.slots - (layer.seen - turn.start)
    return slice(first, first + turn.length)


def _slots_to_keep(layer: CompressedLayer, index: Tensor, turn: Turn) -> Tensor:
    """``[batch, heads, slots]`` bool: of the turn what ``index`` ``[batch, heads, n]`` names, and
    all that is valid before and after it."""
    chosen = torch.zeros(
        *index.shape[:2], turn.length + 1, dtype=torch.bool, device=index.device
    )  # -1 stands for nothing and falls into a slot of its own
    chosen.scatter_(2, index.masked_fill(index < 0, turn.length), True)
    keep = layer.validity()[:, None].repeat(1, index.shape[1], 1)
    keep[:, :, _slots(layer, turn)] = chosen[..., :-1]
    return keep
