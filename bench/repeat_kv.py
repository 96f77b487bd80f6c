"""SnapKV as public kits write it in torch: what many users run today.

Keys are repeated for every query head, all window rows attend to the whole cache, the mask and the
fp32 softmax exist in full, layer by layer. It is another method than AirCache (every window row
asks, layers share alike, KV heads keep their own tokens), so only the number of survivors is the
same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inputs import Inputs

POOLING = 5


@torch.no_grad()
def compress_layers(inputs: Inputs, kept: int) -> list[tuple[Tensor, Tensor]]:
    """Keeps ``kept`` positions of every layer, the window among them."""
    layers = zip(inputs.keys, inputs.values, inputs.q_windows, strict=True)
    return [compress(key, value, query, kept) for key, value, query in layers]


def compress(key: Tensor, value: Tensor, query: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    batch, kv_heads, seq, dim = key.shape
    heads, window = query.shape[1:3]
    repeated = key.repeat_interleave(heads // kv_heads, dim=1)
    logits = query @ repeated.transpose(2, 3) / dim**0.5
    mask = torch.full_like(logits, float("-inf")).triu(seq - window + 1)
    attention = F.softmax(logits + mask, dim=-1, dtype=torch.float32).to(query.dtype)

    scores = attention[..., :-window].mean(-2)  # [batch, heads, seq - window]
    scores = F.avg_pool1d(scores, POOLING, stride=1, padding=POOLING // 2)
    scores = scores.view(batch, kv_heads, heads // kv_heads, -1).mean(2)
    scores = F.pad(scores, (0, window), value=scores.max().item() + 1)
    best = scores.topk(kept, dim=-1).indices.sort(-1).values
    index = best[..., None].expand(-1, -1, -1, dim)
    return key.gather(2, index), value.gather(2, index)
