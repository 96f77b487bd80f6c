"""Layers of a compressed cache in buffers of fixed size; :mod:`.static` says what for.

Sizes are those of the buffers, and what changes from step to step is a tensor on the device that is
written in place: nothing here depends on a value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import CacheLayerMixin, DynamicSlidingWindowLayer, StaticLayer

from aircache_ext import ops
from aircache_ext.hf.layer import CompressedLayer


class StaticCompressedLayer(CacheLayerMixin):
    """What a ``CompressedLayer`` holds, and room for ``room`` tokens more.

    Survivors are left-aligned: slots ``0 .. lengths[b] - 1`` are those of row ``b``, in ascending
    order of position, without padding. A new token is written at the cursor ``lengths[b]``.
    """

    is_compileable = True
    is_croppable = True
    is_sliding = False
    compressed = True

    def __init__(self, layer: CompressedLayer, room: int) -> None:
        super().__init__()
        held = layer.validity()  # [batch, slots]
        # False sorts first and stably: a row's tokens end up on the left, in ascending order.
        order = (~held).to(torch.uint8).argsort(dim=-1, stable=True)[:, None]  # [batch, 1, slots]
        self.lengths = held.sum(1)  # [batch] int64: slots in use, and the cursor
        self.seen = torch.tensor(layer.seen, device=held.device)  # scalar, int64
        # [batch, 1 or kv_heads, slots] int64: original positions, -1 where there was no token; the
        # tokens that came later follow one another up to ``seen``.
        positions = layer.positions
        self.kept = positions.gather(2, order.expand(-1, positions.shape[1], -1))
        keys, values = ops.gather_kv(  # beyond a row's count it writes zeros
            [layer.keys], [layer.values], [pad(order, (0, room))], self.lengths.int()[None]
        )
        self.keys: Tensor = keys[0]  # [batch, kv_heads, slots + room, head_dim]
        self.values: Tensor = values[0]  # [batch, kv_heads, slots + room, value_dim]
        self.dtype, self.device = self.keys.dtype, self.keys.device
        self.is_initialized = True
        # As in StaticLayer: a graph writes to them, and without this CUDA graphs are skipped.
        for tensor in (self.keys, self.values, self.lengths, self.seen):
            torch._dynamo.mark_static_address(tensor)

    def loosen(self) -> CompressedLayer:
        """The same tokens as a layer that grows, with one synchronisation."""
        least, width = torch.stack([self.lengths.amin(), self.lengths.amax()]).tolist()
        slot = torch.arange(width, device=self.device)
        slot = slot - (width - self.lengths)[:, None]  # [batch, width]; negative: unused
        held, order = slot >= 0, slot.clamp(min=0)[:, None]
        positions = self.positions
        positions = positions.gather(2, order.expand(-1, positions.shape[1], -1))
        count = torch.full((1, len(order)), width, dtype=torch.int32, device=self.device)
        layer = CompressedLayer()
        layer.lazy_initialization(self.keys, self.values)
        [layer.keys], [layer.values] = ops.gather_kv([self.keys], [self.values], [order], count)
        layer.valid = None if least == width else held
        layer.kept = positions.masked_fill(~held[:, None], -1)
        layer.seen = int(self.seen)
        layer.compressed = True
        return layer

    @property
    def slots(self) -> int:
        return self.keys.shape[2]

    @property
    def positions(self) -> Tensor:
        """``[batch, 1 or kv_heads, slots]`` int64, as those of a ``CompressedLayer``."""
        slot = torch.arange(self.slots, device=self.device)
        later = slot + (self.seen - self.lengths)[:, None]  # [batch, slots]
        kept = pad(self.kept, (0, self.slots - self.kept.shape[2]), value=-1)
        positions = torch.where(kept < 0, later[:, None], kept)
        return positions.masked_fill(~self.validity()[:, None], -1)

    def validity(self) -> Tensor:
        """``[batch, slots]`` bool: which slots hold a token."""
        return torch.arange(self.slots, device=self.device) < self.lengths[:, None]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It is made of a layer that holds tokens."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Of one new token: ``[batch, kv_heads, 1, dim]``. Returns the whole buffers."""
        slot = self.lengths[:, None, None, None]
        self.keys.scatter_(2, slot.expand_as(key_states), key_states)
        self.values.scatter_(2, slot.expand_as(value_states), value_states)
        self.lengths.add_(1)
        self.seen.add_(1)
        return self.keys, self.values

    def get_seq_length(self) -> Tensor:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, Tensor]:
        """The model's mask is about the incoming tokens alone, see ``CompressedLayer``."""
        return query_length, self.seen

    def get_max_length(self) -> int:
        return self.slots

    def get_max_cache_shape(self) -> int:
        """The name of ``get_max_length`` before transformers 5.13."""
        return self.slots

    def crop(self, tokens_to_remove: int) -> None:
        """Removes the last ``-tokens_to_remove`` tokens; the cache saw to it that it may."""
        self.lengths.add_(tokens_to_remove)
        self.seen.add_(tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        _reorder(beam_idx, self.keys, self.values, self.lengths, self.kept)


class StaticSlidingLayer(StaticLayer):
    """What a sliding layer holds, and room for ``room`` tokens more. It does not slide: that the
    oldest tokens are out of reach is said by the model's own mask, as everything else about them.
    """

    is_sliding = True

    def __init__(self, layer: DynamicSlidingWindowLayer, room: int) -> None:
        held = layer.keys.shape[2]
        super().__init__(max_cache_len=held + room)
        self.lazy_initialization(layer.keys, layer.values)
        self.keys[:, :, :held] = layer.keys
        self.values[:, :, :held] = layer.values
        self.cumulative_length.fill_(held)  # slots in use, and the cursor
        self.sliding_window = layer.sliding_window
        self.dropped = layer.cumulative_length - held  # tokens that had slid out

    def loosen(self) -> DynamicSlidingWindowLayer:
        """The same tokens as a layer that grows and slides, with one synchronisation."""
        length = int(self.cumulative_length)
        reach = slice(max(length - self.sliding_window + 1, 0), length)
        layer = DynamicSlidingWindowLayer(self.sliding_window)
        layer.lazy_initialization(self.keys, self.values)
        layer.keys = self.keys[:, :, reach].clone()  # a view would keep the buffer
        layer.values = self.values[:, :, reach].clone()
        layer.cumulative_length = self.dropped + length
        return layer

    def get_seq_length(self) -> Tensor:
        return self.dropped + self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if query_length == 1:
            return self.max_cache_len, self.dropped
        length = int(self.cumulative_length)  # several tokens are read by a layer that slides
        held = min(length, self.sliding_window - 1)
        return held + query_length, self.dropped + length - held

    def crop(self, tokens_to_remove: int) -> None:
        self.cumulative_length.add_(tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        _reorder(beam_idx, self.keys, self.values)


def _reorder(rows: Tensor, *tensors: Tensor) -> None:
    """Batch row ``i`` becomes the former row ``rows[i]``, in place."""
    for tensor in tensors:
        tensor.copy_(tensor.index_select(0, rows.to(tensor.device)))
