"""Inputs for kvpress: what the hook of a press finds when a Qwen2 layer has read the prompt.

A press takes no queries; it projects and rotates the last hidden states again, which is part of its
cost. So each layer gets an attention module of the case's geometry, as wide as its heads together,
like that of Qwen2-7B. Its projection is a random permutation with random signs, stored densely:
it costs what any other does, and there are hidden states from which the press finds just the
queries of ``inputs.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2RotaryEmbedding,
    rotate_half,
)

from cases import Case
from inputs import Inputs, make_inputs

DIGITS, BASE = 3, 128  # of a position, in channels of its value: exact in all dtypes


@dataclass(frozen=True)
class PressInputs(Inputs):
    """Lists have one entry per layer. Values say where they stood; see ``positions``."""

    modules: list[nn.Module]
    hidden_states: list[Tensor]  # [batch, window + 1, hidden]: a press reads the last window alone
    position_embeddings: tuple[Tensor, Tensor]  # cosines and sines, [1, seq, head_dim]

    def copy(self) -> PressInputs:
        hidden_states = [t.clone() for t in self.hidden_states]
        return replace(self, **vars(super().copy()), hidden_states=hidden_states)


def make_press_inputs(case: Case, dtype: torch.dtype, device: torch.device) -> PressInputs:
    inputs = make_inputs(case, dtype, device=device)
    config = Qwen2Config(
        hidden_size=case.query_heads * case.head_dim,
        num_attention_heads=case.query_heads,
        num_key_value_heads=case.kv_heads,
        num_hidden_layers=case.layers,
        max_position_embeddings=case.seq,
    )
    with torch.no_grad(), device:
        modules = [_attention(config, layer, dtype) for layer in range(case.layers)]
        position_ids = torch.arange(case.seq)[None]
        cos, sin = Qwen2RotaryEmbedding(config)(inputs.keys[0], position_ids)
        hidden_states = [
            _hidden_states(module, queries, cos, sin)
            for module, queries in zip(modules, inputs.q_windows, strict=True)
        ]
        for value in inputs.values:
            _write_positions(value)
    return PressInputs(
        **vars(inputs),
        modules=modules,
        hidden_states=hidden_states,
        position_embeddings=(cos, sin),
    )


def positions(values: Tensor) -> Tensor:
    """Where rows of values ``[batch, kv_heads, n, head_dim]`` stood: ``[batch, kv_heads, n]``."""
    digits = values[..., :DIGITS].long()
    return (digits * BASE ** torch.arange(DIGITS, device=values.device)).sum(-1)


def _write_positions(value: Tensor) -> None:
    rest = torch.arange(value.shape[2], device=value.device)
    for digit in range(DIGITS):
        value[..., digit] = rest % BASE
        rest = rest // BASE


def _attention(config: Qwen2Config, layer: int, dtype: torch.dtype) -> nn.Module:
    module = Qwen2Attention(config, layer).to(dtype)
    size = config.hidden_size
    random = torch.Generator(module.q_proj.weight.device).manual_seed(layer)
    signs = 1 - 2 * torch.randint(2, (size,), generator=random)
    module.q_proj.weight.zero_()
    module.q_proj.weight[torch.arange(size), torch.randperm(size, generator=random)] = signs.to(
        dtype
    )
    module.q_proj.bias.zero_()
    return module


def _hidden_states(module: nn.Module, queries: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the window's queries back to position 0, and those to what is projected to them."""
    batch, _, window, _ = queries.shape
    cos, sin = cos[:, None, -window:], sin[:, None, -window:]
    unrotated = (queries * cos - rotate_half(queries) * sin).transpose(1, 2).flatten(2)
    before = unrotated.new_zeros(batch, 1, unrotated.shape[2])
    return torch.cat([before, unrotated @ module.q_proj.weight], dim=1)
