"""The eviction: which of a turn's tokens stay, and moving them, layer by layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aircache_ext import ops
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.observe import seen_in
from aircache_ext.hf.turn import Turn
from aircache_ext.methods import Amount, Method, Seen

Group = list[int]  # layers, by their place among those that are compressed


def evict(layers: Sequence[CompressedLayer], turn: Turn, method: Method, amount: Amount) -> None:
    """Drops from each layer what ``method`` does not keep of the turn."""
    indices = _choose(layers, turn, method, amount)
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
    layers: Sequence[CompressedLayer], turn: Turn, method: Method, amount: Amount
) -> list[Tensor]:
    """The positions within the turn that stay, as ``ops.select`` gives them for each layer.

    An op takes layers of one shape on one device, so they are scored in groups. The budgets are
    those of all layers together: statistics travel between devices, scores and keys do not.
    """
    groups: dict[Any, Group] = {}
    for i, layer in enumerate(layers):
        groups.setdefault(_group(layer), []).append(i)
    parts: list[tuple[Group, Seen]] = []
    for group in groups.values():
        members = [layers[i] for i in group]
        parts.append((group, seen_in(members, turn, method, amount, tuple(group))))
    home = layers[0].keys.device
    seen = _together(parts, home)
    budgets = method.budgets(len(layers), seen, turn.on(home), amount.on(home))
    chosen: dict[int, Tensor] = {}
    for group, part in parts:
        device = part.scores[0].device
        tokens, part_budgets = turn.on(device), budgets[group].to(device)
        scores = method.rank(part.scores, part_budgets, tokens)
        indices, _ = ops.select(
            scores, part_budgets, visual=method.evictable(tokens), valid=tokens.valid
        )
        chosen.update(zip(group, indices, strict=True))
    return [chosen[i] for i in range(len(layers))]


def _group(layer: CompressedLayer) -> Any:
    """Alike for layers that one call of an op can take."""
    remembered = layer.received if layer.queries is None else layer.queries
    assert remembered is not None
    return layer.keys.device, layer.keys.shape[1], remembered.shape[1:], layer.scaling


def _together(parts: list[tuple[Group, Seen]], home: torch.device) -> Seen:
    """What the budgets follow, in the order of the layers; the scores stay where they are."""
    order = torch.tensor([i for group, _ in parts for i in group], device=home).argsort()
    seen = [part for _, part in parts]
    statistics = zip(*(part.statistics for part in seen), strict=True)
    judged = seen[0].judged  # alike in all groups, as is the window
    return Seen(
        scores=(),
        statistics=tuple(torch.cat([part.to(home) for part in one])[order] for one in statistics),
        judged=None if judged is None else judged.to(home),
        window=seen[0].window,
    )


def _slots_to_keep(layer: CompressedLayer, index: Tensor, turn: Turn) -> Tensor:
    """``[batch, heads, slots]`` bool: of the turn what ``index`` ``[batch, heads, n]`` names, and
    all that is valid before and after it."""
    chosen = torch.zeros(
        *index.shape[:2], turn.length + 1, dtype=torch.bool, device=index.device
    )  # -1 stands for nothing and falls into a slot of its own
    chosen.scatter_(2, index.masked_fill(index < 0, turn.length), True)
    keep = layer.validity()[:, None].repeat(1, index.shape[1], 1)
    keep[:, :, layer.slots_of(turn.start, turn.length)] = chosen[..., :-1]
    return keep
