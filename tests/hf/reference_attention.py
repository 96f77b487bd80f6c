"""What compression has to equal: full attention in which evicted keys are masked out, per layer.

The model, its cache and its masks are those of transformers; only the attention function is ours,
ten lines of plain torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import eager_mask

NAME = "full_with_evicted_keys_masked"
_evicted: dict[int, Tensor] = {}  # layer -> [batch, 1 or kv_heads, positions] bool


def _attend(module, query, key, value, attention_mask, scaling=None, **_):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = query @ key.transpose(2, 3) * (scaling or key.shape[-1] ** -0.5) + attention_mask
    if (evicted := _evicted.get(module.layer_idx)) is not None:
        evicted = evicted.repeat_interleave(query.shape[1] // evicted.shape[1], 1)
        seen = evicted.shape[2]
        logits[..., :seen] = logits[..., :seen].masked_fill(evicted[:, :, None], -torch.inf)
    return (logits.softmax(-1) @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, eager_mask)


class FullModel:
    """The model over a plain cache; :meth:`evict` hides from then on what a compressed one lost."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config.get_text_config())
        self.evicted: dict[int, Tensor] = {}

    def __call__(self, **inputs: Any) -> Any:
        """A forward; ``rope_deltas`` are put back, as another cache is read with the same model."""
        config = self.model.config.get_text_config()
        before, config._attn_implementation = config._attn_implementation, NAME
        _evicted.update(self.evicted)
        try:
            return self.model(**inputs, past_key_values=self.cache)
        finally:
            _evicted.clear()
            config._attn_implementation = before

    def evict(self, cache: Any) -> None:
        """``cache`` is a ``CompressedCache`` that has read the same tokens."""
        seen = cache.get_seq_length()
        for index, layer in cache._compressible.items():
            held = torch.zeros(*layer.positions.shape[:2], seen + 1, dtype=torch.bool)
            held.scatter_(2, layer.positions.masked_fill(layer.positions < 0, seen), True)
            self.evicted[index] = ~held[..., :-1]
