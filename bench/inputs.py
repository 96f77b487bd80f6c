"""Inputs like a prefill leaves behind.

What compression costs depends on what the queries see: how many instruction tokens are elite
decides how many rows are scored, and the scores' shape decides what selection meets. So the inputs
are not noise. cpp/recipe.h describes the same kind:

noise   every element of a key and of a query is N(0, 1): logits of unmatched pairs are N(0, 1)
topic   each KV head has a direction; 2 % of the visual tokens, in runs of 8, carry it in their
        keys, and queries ask for it: their logits are 2 to 5 higher, more so in later layers
elite   up to 3 to 6 instruction tokens of a layer carry a second direction that the last query asks
        for (logits 5 higher), so that a handful stands out in Eq. 5
sink    position 0, where it is text, draws every query (logits 6 higher)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cases import Case


@dataclass(frozen=True)
class Inputs:
    """What ``compress_layers`` takes; lists have one entry per layer."""

    keys: list[Tensor]  # [batch, kv_heads, seq, head_dim]
    values: list[Tensor]  # [batch, kv_heads, seq, head_dim]
    q_windows: list[Tensor]  # [batch, query_heads, window, head_dim]
    visual: Tensor  # [batch, seq] bool

    def nbytes(self) -> int:
        return sum(t.nbytes for t in (*self.keys, *self.values, *self.q_windows))

    def copy(self) -> "Inputs":
        lists = (self.keys, self.values, self.q_windows)
        return Inputs(*([t.clone() for t in tensors] for tensors in lists), self.visual.clone())

    def to(self, dtype: torch.dtype) -> "Inputs":
        lists = (self.keys, self.values, self.q_windows)
        return Inputs(*([t.to(dtype) for t in tensors] for tensors in lists), self.visual)


def make_inputs(
    case: Case,
    dtype: torch.dtype,
    *,
    seed: int = 0,
    elite: int | None = None,
    device: torch.device | None = None,
) -> Inputs:
    """``elite``: exactly so many elite tokens in every layer and row, for sweeps."""
    with device or torch.device("cpu") as place:
        random = torch.Generator(place).manual_seed(seed)
        visual = torch.zeros(case.batch, case.seq, dtype=torch.bool)
        visual[:, case.text_before : case.seq - case.window] = True
        layers = [
            [t.to(dtype) for t in _layer(case, layer, elite, random)]
            for layer in range(case.layers)
        ]
    keys, values, q_windows = (list(tensors) for tensors in zip(*layers, strict=True))
    return Inputs(keys, values, q_windows, visual)


def _layer(
    case: Case, layer: int, exactly: int | None, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, dim, seq = case.batch, case.kv_heads, case.head_dim, case.seq
    asking = 2 + 3 * (layer + 1) / case.layers

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    # Where the topic is and which instruction tokens are elite: shared by the heads of a layer.
    topic_share = torch.zeros(batch, 1, seq, 1)
    planted = torch.zeros(batch, 1, seq, 1, dtype=torch.bool)
    for row in range(batch):
        runs = max(1, case.n_visual // 400)
        starts = torch.randint(max(1, case.n_visual - 8), (runs,), generator=random)
        places = case.text_before + (starts[:, None] + torch.arange(8)).flatten()
        places = places[places < seq - case.window]
        topic_share[row, 0, places, 0] = uniform(0.5, 1.0, len(places))
        if exactly is None:
            elite = torch.randint(case.window, (3 + layer % 4,), generator=random)
        else:
            elite = torch.randperm(case.window, generator=random)[:exactly]
        planted[row, 0, seq - case.window + elite] = True

    topic, anchor, sink = normal(3, batch, heads, 1, dim)
    key = normal(batch, heads, seq, dim)
    if case.text_before > 0:
        key[:, :, :1] += sink
    # Nearly alike, so that Eq. 5 keeps several; quite alike, so that it keeps all.
    spread = 0.1 if exactly is None else 0.0
    key = torch.where(planted, spread * key + anchor, key) + topic_share * topic

    per_query = (batch, heads, case.group, case.window)
    query = normal(*per_query, dim)
    query += asking * uniform(0.7, 1.3, *per_query, 1) * topic[:, :, None] / dim**0.5
    query += 6 * sink[:, :, None] / dim**0.5
    query[:, :, :, -1] += 5 * anchor / dim**0.5
    # No step reads a value's content; they are only moved.
    return key, key.clone(), query.flatten(1, 2)
