"""One layer of a compressed cache in a buffer of fixed size, for compiled decoding.

Nothing here depends on values: sizes are those of the buffer, and everything that changes from step
to step is a tensor on the device that is written in place. So a decoding step compiles into one
graph, which stays the same and can be recorded as a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import CacheLayerMixin

from aircache_ext import ops
from aircache_ext.hf.layer import CompressedLayer


class StaticCompressedLayer(CacheLayerMixin):
    """What a ``CompressedLayer`` holds, and room for ``room`` tokens more.

    Survivors are left-aligned: slots ``0 .. lengths[b] - 1`` are those of row ``b``, in ascending
    order of position, without padding. New tokens are written at the cursor ``lengths[b]``.

    A token that finds no room is refused by ``update``, which counts on the host. It does not count
    inside compiled graphs: there the write itself has an index beyond the buffer, and the bounds
    check of the device stops it (an error on a CPU, a device-side assertion on a GPU).
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
        self.room = room  # tokens that still fit, as far as the host knows
        self.dtype, self.device = self.keys.dtype, self.keys.device
        self.is_initialized = True
        self._pin()

    def _pin(self) -> None:
        # Otherwise CUDA graphs refuse to write to tensors that come from outside.
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

    def readable(self, among_new: Tensor | None, new: int) -> Tensor:
        """Which slots each of the ``new`` last tokens may read: ``[batch, 1, new, slots]`` bool.

        ``among_new`` ``[batch or 1, 1, new, new]`` bool: which of one another; None if all.
        """
        slot = torch.arange(self.slots, device=self.device)
        slot = (slot - (self.lengths - new)[:, None])[:, None, None]  # 0 is the first new token
        readable = (slot < new).expand(-1, -1, new, -1)
        if among_new is None:
            return readable
        index = slot.clamp(0, new - 1).expand(-1, -1, new, -1)
        among_new = among_new.expand(len(index), -1, -1, -1).gather(3, index)
        return readable & (among_new | (slot < 0))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It is made of a layer that holds tokens."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        new = key_states.shape[2]
        if not torch.compiler.is_compiling():
            if new > self.room:
                raise ValueError(
                    f"max_new_tokens leaves room for {self.room} more tokens but {new} came: give "
                    "CompressedCache as many max_new_tokens as generate"
                )
            self.room -= new
        slot = self.lengths[:, None] + torch.arange(new, device=self.device)
        slot = slot[:, None, :, None]  # [batch, 1, new, 1]
        self.keys.scatter_(2, slot.expand_as(key_states), key_states)
        self.values.scatter_(2, slot.expand_as(value_states), value_states)
        self.lengths.add_(new)
        self.seen.add_(new)
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

    def _select_rows(self, rows: Tensor) -> None:
        """Batch row ``i`` becomes the former row ``rows[i]``, in place if there are as many."""
        for name in ("keys", "values", "lengths", "kept"):
            tensor = getattr(self, name)
            selected = tensor.index_select(0, rows.to(self.device))
            if selected.shape == tensor.shape:
                tensor.copy_(selected)
            else:
                setattr(self, name, selected)
        self._pin()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select_rows(torch.arange(len(self.lengths)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()
        self._select_rows(indices)
