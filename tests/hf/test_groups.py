"""Layers that no one op takes together: on several devices, or of different shapes."""

import models
import pytest
import torch
from each_method import EACH_METHOD

from aircache_ext import reference
from aircache_ext.hf import CompressedCache, evict
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.turn import Turn
from aircache_ext.methods import AirCache, Amount

BATCH, SEQ, WINDOW, DIM = 2, 40, 6, 16


def positions(cache):
    return [layer.positions for layer in cache.layers]


@pytest.mark.parametrize("groups", [[0, 1, 1], [0, 1, 0], [0, 1, 2]])
@EACH_METHOD
@torch.no_grad()
def test_a_model_in_parts_keeps_what_it_keeps_whole(method, groups, monkeypatch):
    """A second device, as far as a processor alone can show: its layers are never with others."""
    model = models.build("qwen2_5_vl")
    x = models.inputs("qwen2_5_vl", models.question(0), models.question(1))
    with CompressedCache(model, retention=0.2, method=method) as whole:
        model(**x, past_key_values=whole)
    with CompressedCache(model, retention=0.2, method=method) as parts:
        monkeypatch.setattr(evict, "_group", lambda layer: groups[parts.layers.index(layer)])
        model(**x, past_key_values=parts)
    for ours, expected in zip(positions(parts), positions(whole), strict=True):
        assert torch.equal(ours, expected)


def test_layers_with_different_heads_share_one_budget():
    """The reference scores each layer alone; what they keep adds up to the share of all."""
    random = torch.Generator().manual_seed(0)
    visual = torch.zeros(BATCH, SEQ, dtype=torch.bool)
    visual[:, 3:31] = True
    valid = torch.ones_like(visual)
    heads = [(2, 1), (4, 2), (2, 2), (4, 4)]  # query and KV heads
    layers, scores = [], []
    for query_heads, kv_heads in heads:
        layer = CompressedLayer()
        keys, values = torch.randn(2, BATCH, kv_heads, SEQ, DIM, generator=random)
        layer.update(keys, values)
        layer.queries = 3 * torch.randn(BATCH, query_heads, WINDOW, DIM, generator=random)
        layers.append(layer)
        attention = reference.instruction_attention([layer.queries], [keys], visual=visual)
        elite = reference.elite_window(attention, visual=visual)
        scores.append(reference.window_scores([layer.queries], [keys], elite, visual=visual))
    strength, skewness = reference.moments(torch.cat(scores), visual=visual)
    budgets = reference.layer_budgets(
        strength, skewness, visual=visual, window=WINDOW, retention=0.25
    )
    assert budgets.sum(0).tolist() == [28, 28]  # a quarter of 4 x 28

    evict.evict(layers, Turn(0, visual, valid), AirCache(), Amount(retention=0.25))
    for layer, score, budget in zip(layers, scores, budgets, strict=True):
        for row in range(BATCH):
            best = score[0, row, 0].topk(int(budget[row])).indices
            text = (~visual[row]).nonzero().flatten()
            held = layer.positions[row, 0]
            assert torch.equal(held[held >= 0], torch.cat([best, text]).sort().values)
