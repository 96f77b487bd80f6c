"""Shapes and dtypes of every op's results, for ``torch.compile`` and ``torch.export``."""

import torch
from torch import Tensor, library


def _register(name: str):
    return library.register_fake(f"aircache::{name}")


@_register("instruction_attention")
def _(query: list[Tensor], key: list[Tensor], visual: Tensor, valid, scale):
    batch, _, window, _ = query[0].shape
    return query[0].new_empty((len(query), batch, window), dtype=torch.float32)


@_register("elite_window")
def _(attention: Tensor, visual: Tensor, valid, alpha):
    return attention.new_empty(attention.shape, dtype=torch.bool)


# Arguments that have their defaults are left out of the call.
@_register("window_scores")
def _(
    query,
    key: list[Tensor],
    elite,
    visual,
    valid,
    scale,
    per_kv_head,
    full_softmax=False,
    softmax_n=0.0,
    lse=None,
):
    return _scores(key, per_kv_head)


@_register("window_scores_and_counts")
def _(query, key: list[Tensor], rows, visual, valid, scale, per_kv_head, threshold):
    return _scores(key, per_kv_head), rows.new_empty(rows.shape[:2], dtype=torch.int64)


def _scores(key: list[Tensor], per_kv_head: bool) -> Tensor:
    batch, kv_heads, seq, _ = key[0].shape
    shape = (len(key), batch, kv_heads if per_kv_head else 1, seq)
    return key[0].new_empty(shape, dtype=torch.float32)


@_register("moments")
def _(scores: Tensor, visual: Tensor, valid):
    strength = scores.new_empty(scores.shape[:2], dtype=torch.float64)
    return strength, torch.empty_like(strength)


@_register("layer_budgets")
def _(strength: Tensor, skewness, visual, valid, window, retention, budget, capacity, budget_mode):
    return strength.new_empty(strength.shape, dtype=torch.int32)


@_register("select")
def _(scores: Tensor, budgets: Tensor, visual: Tensor, valid, capacity):
    layers, batch, heads, _ = scores.shape
    if capacity is None:
        # Known only when the budgets are: one size per layer.
        context = library.get_ctx()
        capacity = [context.new_dynamic_size(min=0) for _ in range(layers)]
    indices = [scores.new_empty((batch, heads, slots), dtype=torch.int64) for slots in capacity]
    return indices, torch.empty_like(budgets)


@_register("gather_kv")
def _(key: list[Tensor], value: list[Tensor], indices: list[Tensor], counts: Tensor):
    def gathered(tensors: list[Tensor]) -> list[Tensor]:
        return [
            t.new_empty((t.shape[0], t.shape[1], kept.shape[2], t.shape[3]))
            for t, kept in zip(tensors, indices, strict=True)
        ]

    return gathered(key), gathered(value)


@_register("compact_kv_")
def _(key: list[Tensor], value: list[Tensor], indices: list[Tensor], counts: Tensor):
    return None


@_register("decode_attention")
def _(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale):
    heads = query.shape[:2]
    return query.new_empty((*heads, value.shape[3])), query.new_empty(heads, dtype=torch.float32)
