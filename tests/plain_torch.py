"""The same computation as a torch user would write it: the yardstick for rounding errors.

A result may be off the fp64 reference by twice what this is off, and by a few last places. Dtype
fp32 throughout, for 16-bit caches too: the contract is that scores are computed in fp32 from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aircache_ext.reference import instruction_tokens

EPS = torch.finfo(torch.float32).eps


def instruction_attention(query, key, *, visual, valid, scale=None) -> Tensor:
    """One layer; ``[B, W]``."""
    window, dim = query.shape[2:]
    instruction = instruction_tokens(visual, valid, window)
    rows = []
    for b, inside in enumerate(instruction):
        attention = torch.zeros(window)
        if inside.any():
            last = int(inside.nonzero().max())
            group = query.shape[1] // key.shape[1]
            k = key[b, :, -window:][:, inside].float().repeat_interleave(group, 0)
            q = query[b, :, last : last + 1].float()
            logits = q @ k.transpose(1, 2) * (dim**-0.5 if scale is None else scale)
            attention[inside] = logits.softmax(-1).mean((0, 1))
        rows.append(attention)
    return torch.stack(rows)


def window_scores(
    query,
    key,
    elite,
    *,
    visual,
    valid,
    scale=None,
    heads="shared",
    softmax="restricted",
    softmax_n=0.0,
    lse=None,
) -> Tensor:
    """One layer; ``[B, H, S]``."""
    batch, kv_heads, seq, dim = key.shape
    group, window = query.shape[1] // kv_heads, query.shape[2]
    scores = torch.zeros(batch, kv_heads, group, seq)
    for b in range(batch):
        images = visual[b] & valid[b]
        elites = elite[b].nonzero().flatten()
        if len(elites) == 0:
            continue
        if softmax == "full":
            positions = valid[b].nonzero().flatten()
            seen = positions <= (seq - window + elites)[:, None]
        else:
            n, m = int(images.sum()), len(elites)
            positions = torch.cat([images.nonzero().flatten(), seq - window + elites])
            seen = torch.ones(m, n + m, dtype=torch.bool).tril(n)
        k = key[b][:, positions].float().repeat_interleave(group, 0)
        logits = query[b][:, elites].float() @ k.transpose(1, 2)
        logits = logits * (dim**-0.5 if scale is None else scale)
        logits = logits.masked_fill(~seen, -torch.inf)
        if lse is not None:
            attention = (logits - lse[b][:, elites, None]).exp()
        elif softmax_n > 0:
            attention = logits.exp() / (softmax_n + logits.exp().sum(-1, keepdim=True))
        else:
            attention = logits.softmax(-1)
        attention = attention.mean(1)  # [Hq, keys]
        scores[b][:, :, positions] = attention.unflatten(0, (kv_heads, group))
        scores[b][:, :, ~images] = 0
    return scores.mean((1, 2), keepdim=True)[:, 0] if heads == "shared" else scores.mean(2)


def assert_as_good(ours: Tensor, exact: Tensor, plain: Tensor, *, cut: bool = False) -> None:
    """The tolerance rule: twice the error of plain torch, and four fp32 steps at the value.

    ``cut``: our sums are cut off, as tensor cores do, which loses up to a whole step where rounding
    loses half of one. So these may be eight.
    """
    error = (ours.double() - exact).abs()
    allowed = 2 * (plain.double() - exact).abs().max() + (8 if cut else 4) * EPS * exact.abs()
    worst = (error - allowed).argmax()
    assert (error <= allowed).all(), (
        f"off by {error.flatten()[worst]:.3g} where {allowed.flatten()[worst]:.3g} is allowed "
        f"and {exact.flatten()[worst]:.3g} is right"
    )
