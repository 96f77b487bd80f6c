"""The eviction: which of a turn's tokens stay, and moving them, layer by layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aircache_ext._compress import kept_tokens
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.turn import Turn


def evict(layers: Sequence[CompressedLayer], turn: Turn, **options: Any) -> None:
    """Drops from each layer what the turn's instruction does not look at.

    ``options`` are those of ``compress_layers``. The layers' ``queries`` are used up.
    """
    indices, counts = _choose(layers, turn, options)
    keeps = [
        _slots_to_keep(layer, index, turn) for layer, index in zip(layers, indices, strict=True)
    ]
    kept = torch.stack([keep[:, 0].sum(1) for keep in keeps])  # [layers, batch]
    bounds = torch.stack([kept.amin(1), kept.amax(1)], 1).tolist()
    # One by one, so that no more than one layer exists twice.
    for layer, keep, (least, most) in zip(layers, keeps, bounds, strict=True):
        layer.evict(keep, most, full=least == most)


def _choose(
    layers: Sequence[CompressedLayer], turn: Turn, options: dict[str, Any]
) -> tuple[list[Tensor], Tensor]:
    """The positions within the turn that stay, as ``ops.select`` gives them."""
    device = layers[0].keys.device
    queries = [layer.queries for layer in layers if layer.queries is not None]
    for layer in layers:
        layer.queries = None
    return kept_tokens(
        [layer.keys[:, :, _slots(layer, turn)] for layer in layers],
        queries,
        visual=turn.visual.to(device),
        valid=turn.valid.to(device),
        scale=layers[0].scaling,
        capacity=None,
        slots=None,
        **options,
    )


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
