"""Which incoming tokens are visual, read off the model's inputs: one way for every family.

Processors of recent models say it outright (``mm_token_type_ids``); for all others the
configuration names the placeholder tokens that image features are written to.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

IMAGE, VIDEO = 1, 2  # in mm_token_type_ids; text is 0, audio 3
# The configuration's placeholders; older configurations alias image_token_index to the first.
TOKEN_IDS = ("image_token_id", "video_token_id")


def visual_tokens(config: Any, inputs: Mapping[str, Any], seen: int, new: int) -> Tensor | None:
    """``[batch, new]`` bool of the tokens that follow ``seen`` others, None if nothing tells."""
    types = inputs.get("mm_token_type_ids")
    if types is not None:
        types = types[:, -new:]
        return (types == IMAGE) | (types == VIDEO)
    ids = inputs.get("input_ids")
    placeholders = [getattr(config, name, None) for name in TOKEN_IDS]
    placeholders = [token for token in placeholders if token is not None]
    if ids is None or not placeholders:
        return None
    if new == 1 and seen:  # a placeholder that the model said itself: no image stands behind it
        return torch.zeros_like(ids[:, -1:], dtype=torch.bool)
    return torch.isin(ids[:, -new:], torch.tensor(placeholders, device=ids.device))


def valid_tokens(inputs: Mapping[str, Any], tokens: Tensor) -> Tensor:
    """``[batch, new]`` bool: which of the incoming ``tokens`` ``[batch, new, ...]`` are not
    padding."""
    mask = inputs.get("attention_mask")
    batch, new = tokens.shape[:2]
    if mask is None:
        return torch.ones(batch, new, dtype=torch.bool, device=tokens.device)
    if isinstance(mask, dict) or mask.dim() != 2:
        came = "a dict" if isinstance(mask, dict) else f"of shape {list(mask.shape)}"
        raise ValueError(
            f"attention_mask is {came} but must be [batch, seen + new]: from a prepared mask it "
            "cannot be told which tokens are padding"
        )
    return mask[:, -new:].bool()


def padding_of_prepared(mask: Any) -> Any:
    """The mask as :func:`valid_tokens` reads it, ``[batch, new]``, of one that ``generate`` made
    for a cache that compiles: ``[batch, 1, new, slots]`` for each kind of layer, or for all.

    In masks that transformers makes, a token that may not read itself is padding.
    """
    if isinstance(mask, dict):
        mask = mask.get("full_attention")
    if not isinstance(mask, Tensor) or mask.dim() != 4:
        return mask
    incoming = mask[:, 0, :, -mask.shape[2] :].diagonal(dim1=1, dim2=2)  # [batch, new]
    return incoming if incoming.dtype == torch.bool else incoming >= 0  # eager's is added to logits
