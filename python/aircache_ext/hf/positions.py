"""Positions of a later turn that brings a new image, for models of the Qwen-VL kind.

Their rotary positions are three-dimensional and an image takes fewer of them than it has tokens.
``generate`` computes them for a whole conversation or goes on one by one; for new images after a
cache it does neither, whatever the cache. A plain forward with explicit positions is exact.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache


def next_positions(
    model: Any,
    past_key_values: Cache,
    input_ids: Tensor,
    mm_token_type_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    **grids: Any,
) -> Tensor:
    """``position_ids`` for the tokens that follow a cache, images and videos among them.

    >>> positions = next_positions(model, cache, **{k: turn[k] for k in (
    ...     "input_ids", "mm_token_type_ids", "image_grid_thw")})
    >>> output = model(**turn, position_ids=positions, past_key_values=cache)

    The model's ``rope_deltas`` are brought up to date, so that ``generate`` can go on from there
    with the ids of the whole conversation and the token that ``output`` chose.

    Args:
        model: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5, GLM-4V: with a ``get_rope_index``.
        past_key_values: what was read so far; its ``get_seq_length`` must be the tokens seen.
        input_ids: ``[batch, new]``, of the new turn alone.
        mm_token_type_ids: ``[batch, new]``.
        attention_mask: ``[batch, seen + new]``; needed if any token seen was padding.
        grids: ``image_grid_thw``, ``video_grid_thw`` and the like, of the new turn alone.

    Returns:
        ``[3, batch, new]`` int64.

    Raises:
        TypeError: the model has no three-dimensional positions.
    """
    core: Any = model if hasattr(model, "get_rope_index") else getattr(model, "model", None)
    if not hasattr(core, "get_rope_index"):
        raise TypeError(
            f"model is a {type(model).__name__} but must have a get_rope_index: others need no "
            "help, generate finds the positions of a later turn by itself"
        )
    batch, new = input_ids.shape
    if attention_mask is None:
        seen = torch.full((batch, 1), past_key_values.get_seq_length(), device=input_ids.device)
        new_mask = None
    else:
        seen = attention_mask[:, :-new].sum(1, keepdim=True)
        new_mask = attention_mask[:, -new:]
    positions, deltas = core.get_rope_index(
        input_ids, mm_token_type_ids=mm_token_type_ids, attention_mask=new_mask, **grids
    )
    before = 0 if core.rope_deltas is None else core.rope_deltas
    core.rope_deltas = before + deltas
    return positions + seen + before
