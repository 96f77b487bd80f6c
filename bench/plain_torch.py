"""AirCache in plain torch, as fast as we can make it: the baseline that ``aircache_ext`` must beat.

It is no straw man. It is told what ``aircache_ext`` must find out (every row is text, image,
instruction, at the same places), so it slices where a general version would mask. Only the elite
rows are scored, with the query heads of a KV head grouped into one matrix product, so that no key
is read twice and none repeated. Each step is the fastest of those tried on a CPU:

* ``bmm`` on 3-D views; ``matmul`` on 4-D slices, one ``mm`` a head and ``linear`` were slower
* half-precision keys are converted to fp32, 1,024 at a time; all at once was slower. A GPU's matrix
  product takes them as they are and returns fp32. Products in half precision round the logits, so
  they are not quite the same method: ``products`` asks for them
* ``softmax`` and a sum; ``exp`` by hand or after ``logsumexp`` was slower
* survivors by ``index_select`` on flat rows; along the sequence, by indexing and by ``gather`` was
  slower

Equation numbers are those of AirCache, arXiv 2503.23956.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from inputs import Inputs

KEYS_AT_ONCE = 1024  # converted to fp32 together: they stay in the cache until they are multiplied


class Steps(NamedTuple):
    """The tensor work between the host's decisions; ``torch.compile`` may replace each."""

    elite: Callable[..., Tensor]
    scores: Callable[..., Tensor]
    moments: Callable[..., Tensor]
    gather: Callable[..., tuple[Tensor, Tensor]]


class Kept(NamedTuple):
    keys: Tensor  # [batch, kv_heads, C, head_dim], zero beyond a row's count
    values: Tensor
    positions: list[Tensor]  # [batch] of [count]


def elite(query: Tensor, key: Tensor, alpha: float) -> Tensor:
    """Eq. 4-5 of all layers: ``[L, B, Hkv, G, D]``, ``[L, B, Hkv, W, D]`` -> ``[L, B, W]`` bool."""
    logits = query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5
    attention = logits.softmax(-1).mean((2, 3))
    return attention >= alpha * attention.amax(-1, keepdim=True)


def scores(query: Tensor, key: Tensor, hidden: Tensor) -> Tensor:
    """Eq. 7-8 of one row: ``[Hkv, G, E, D]``, ``[Hkv, V + W, D]``, ``[E, W]`` -> ``[V]``."""
    heads, group, elites, dim = query.shape
    n_visual = key.shape[1] - hidden.shape[1]
    rows = query.flatten(1, 2) * dim**-0.5
    if key.dtype == rows.dtype:
        logits = torch.bmm(rows, key.transpose(1, 2))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    elif key.is_cuda:
        products = query.flatten(1, 2).to(key.dtype)  # what it was: nothing is rounded
        logits = torch.bmm(products, key.transpose(1, 2), out_dtype=rows.dtype) * dim**-0.5
    else:
        parts = key.split(KEYS_AT_ONCE, dim=1)
        logits = torch.cat([torch.bmm(rows, k.to(rows.dtype).transpose(1, 2)) for k in parts], -1)
    seen = logits.view(heads, group, elites, -1)
    seen[..., n_visual:].masked_fill_(hidden, -math.inf)
    return logits.softmax(-1)[..., :n_visual].sum((0, 1)) / (heads * group * elites)


def moments(scores: Tensor) -> Tensor:
    """Eq. 9-10: ``[L, B, V]`` -> strength and skewness, ``[2, L, B]`` fp64."""
    scores = scores.double()
    n = scores.shape[-1]
    centred = scores - scores.mean(-1, keepdim=True)
    std = (centred.square().sum(-1) / (n - 1)).sqrt()
    skewness = n / ((n - 1) * (n - 2)) * centred.pow(3).sum(-1) / std**3
    return torch.stack([scores.sum(-1), skewness])


def gather(key: Tensor, value: Tensor, rows: Tensor, shape: list[int]) -> tuple[Tensor, Tensor]:
    """Survivors of one layer; ``rows`` number the positions of all rows and heads through."""
    dim = key.shape[-1]
    return (
        key.view(-1, dim).index_select(0, rows).view(shape),
        value.view(-1, dim).index_select(0, rows).view(shape),
    )


PLAIN = Steps(elite, scores, moments, gather)


def compiled() -> Steps:
    """Compiled step by step: the number of elite tokens and the budgets are data, and a compiled
    whole would break its graph at the same places."""
    return Steps(*(torch.compile(step, dynamic=True) for step in PLAIN))


@torch.no_grad()
def compress_layers(
    inputs: Inputs,
    text_before: int,
    *,
    retention: float = 0.1,
    alpha: float = 0.9,
    products: torch.dtype = torch.float32,
    steps: Steps = PLAIN,
) -> list[Kept]:
    keys, values, q_windows = inputs.keys, inputs.values, inputs.q_windows
    layers, device = len(keys), keys[0].device
    batch, kv_heads, seq, dim = keys[0].shape
    window = q_windows[0].shape[2]
    n_visual = seq - window - text_before
    queries = [q.unflatten(1, (kv_heads, -1)) for q in q_windows]  # [B, Hkv, G, W, D]

    last = torch.stack([q[:, :, :, -1] for q in queries]).float()
    instruction = torch.stack([k[:, :, -window:] for k in keys]).float()
    elite_of = steps.elite(last, instruction, alpha).tolist()  # [L][B][W]

    columns = torch.arange(window, device=device)

    def score_row(layer: int, row: int) -> Tensor:
        elites = [w for w, is_elite in enumerate(elite_of[layer][row]) if is_elite]
        chosen = torch.tensor(elites, device=device)
        visible = torch.isin(columns, chosen) & (columns <= chosen[:, None])
        query = queries[layer][row][:, :, chosen].to(products)
        return steps.scores(query, keys[layer][row, :, text_before:], ~visible)

    all_scores = torch.stack(
        [torch.stack([score_row(layer, row) for row in range(batch)]) for layer in range(layers)]
    )
    strength, skewness = steps.moments(all_scores).tolist()  # [L][B]
    by_row = [
        layer_budgets([s[row] for s in strength], [k[row] for k in skewness], n_visual, retention)
        for row in range(batch)
    ]

    before = torch.arange(text_before, device=device)
    after = torch.arange(seq - window, seq, device=device)
    first = torch.arange(batch * kv_heads, device=device).view(batch, kv_heads, 1) * seq
    out = []
    for layer in range(layers):
        positions = []
        for row in range(batch):
            best = all_scores[layer, row].topk(by_row[row][layer], sorted=False).indices
            positions.append(torch.cat([before, best.sort().values + text_before, after]))
        padded = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True)  # [B, C]
        rows = (first + padded[:, None]).flatten()
        shape = [batch, kv_heads, padded.shape[1], dim]
        key, value = steps.gather(keys[layer], values[layer], rows, shape)
        for row, kept in enumerate(positions):
            if len(kept) < padded.shape[1]:
                key[row, :, len(kept) :] = 0
                value[row, :, len(kept) :] = 0
        out.append(Kept(key, value, positions))
    return out


def layer_budgets(
    strength: list[float], skewness: list[float], n_visual: int, retention: float
) -> list[int]:
    """Eq. 11 for one row, on the host: shares of the total, none below 1 or above ``n_visual``.

    A share at a bound is fixed there and the others scaled again, which is the same water level
    that ``aircache_ext`` finds unless both bounds are met; the benchmarks' inputs meet none.
    """
    layers = len(strength)
    total = min(max(math.floor(retention * (layers * n_visual) + 0.5), layers), layers * n_visual)
    skewness = [max(k, 0.0) for k in skewness]
    weights = [
        (s / sum(strength) + (k / sum(skewness) if sum(skewness) > 0 else 1 / layers)) / 2
        for s, k in zip(strength, skewness, strict=True)
    ]
    shares: dict[int, float] = {}
    while True:
        free = [i for i in range(layers) if i not in shares]
        level = (total - sum(shares.values())) / sum(weights[i] for i in free) if free else 0
        bound = {i: min(max(level * weights[i], 1), n_visual) for i in free}
        met = {i: x for i, x in bound.items() if x != level * weights[i]}
        shares |= met or bound
        if not met:
            break
    grid = [math.floor(shares[i] * 2**20 + 0.5) / 2**20 for i in range(layers)]
    budgets = [math.floor(x) for x in grid]
    by_fraction = sorted(range(layers), key=lambda i: (budgets[i] - grid[i], i))
    for i in by_fraction[: total - sum(budgets)]:
        budgets[i] += 1
    return budgets
