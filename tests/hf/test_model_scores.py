"""The scores are those of the model's own attention, and the kept sets follow from them.

The expected scores come from the attention weights that an unmodified eager model returns. Its rows
are softmaxes over all keys; over some of the keys they are the same weights, divided by their sum.
"""

import models
import pytest
import torch
from models import Prompt
from torch import Tensor
from versions import families

from aircache_ext import ops, reference
from aircache_ext.hf import CompressedCache
from aircache_ext.methods import AirCache
from borderline import borderline_sets
from cases import Case, Inputs

WINDOW = 128


@pytest.fixture
def used(monkeypatch):
    """What the method was given: keys, queries and the scale."""
    calls = []

    def observe(method, prompt):
        calls.append(([k.clone() for k in prompt.keys], prompt.queries, prompt.scale))
        return observed(method, prompt)

    observed = AirCache.observe
    monkeypatch.setattr(AirCache, "observe", observe)
    return calls


def expected_scores(
    attention: Tensor,  # [batch, query_heads, seq, seq], a layer's
    visual: Tensor,  # [batch, seq]
    valid: Tensor,
    heads: int,  # that share scores
) -> tuple[Tensor, Tensor]:  # [batch, query_heads / heads, seq] scores, [batch, seq] elite
    """Equations 4 to 8, row by row, from attention weights alone."""
    batch, query_heads, seq, _ = attention.shape
    attention = attention.double()
    scores = torch.zeros(batch, query_heads // heads, seq, dtype=torch.float64)
    elites = torch.zeros(batch, seq, dtype=torch.bool)
    for b in range(batch):
        seen = (visual[b] & valid[b]).nonzero().flatten()
        told = torch.tensor([t for t in range(seq) if valid[b, t] and t > seen.max()])
        told = told[told >= seq - WINDOW]
        listened = attention[b, :, told[-1], told]  # [query_heads, instruction]
        a = (listened / listened.sum(1, keepdim=True)).mean(0)
        elite = told[a >= 0.9 * a.max()]
        elites[b, elite] = True
        for e in elite:
            keys = torch.cat([seen, elite[elite <= e]])
            weights = attention[b, :, e, seen] / attention[b, :, e, keys].sum(1, keepdim=True)
            scores[b][:, seen] += weights.unflatten(0, (-1, heads)).mean(1) / len(elite)
    return scores, elites


@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@pytest.mark.parametrize("name", families("qwen3_vl", "qwen2_5_vl", "llava", "gemma3", "qwen3_5"))
@torch.no_grad()
def test_scores_and_kept_sets_are_those_of_the_models_attention(name, heads, used):
    """Qwen3-VL normalises its queries, Qwen2.5-VL rotates them in three dimensions, Gemma 3 scales
    them otherwise: recomputing them from hidden states would miss it."""
    eager = models.build(name, "eager")
    prompts = [models.question(1), Prompt((2, "image", 3, "image", 20), 2), Prompt(("image", 5), 3)]
    x = models.inputs(name, *prompts)
    attentions = eager(**x, output_attentions=True).attentions

    model = models.build(name)
    with CompressedCache(model, retention=0.3, heads=heads) as cache:
        model(**x, past_key_values=cache)
    [(keys, queries, scale)] = used

    visual, valid = x["input_ids"] == models.IMAGE, x["attention_mask"].bool()
    masks = {"visual": visual, "valid": valid}
    shared = models.QUERY_HEADS if heads == "shared" else models.QUERY_HEADS // models.KV_HEADS
    layers = list(cache._compressible)
    if name == "qwen3_5":  # returns those of its attention layers alone
        attentions = dict(zip(layers, attentions, strict=True))
    wanted, elites = zip(
        *(expected_scores(attentions[i], visual, valid, shared) for i in layers), strict=True
    )
    wanted, elites = torch.stack(wanted), torch.stack(elites)

    window = queries[0].shape[2]
    a = ops.instruction_attention(queries, keys, scale=scale, **masks)
    elite = ops.elite_window(a, **masks)
    assert torch.equal(elite, elites[..., -window:])
    scores = ops.window_scores(queries, keys, elite, scale=scale, heads=heads, **masks)
    torch.testing.assert_close(scores.double(), wanted, atol=1e-5, rtol=0)

    statistics = reference.moments(wanted, **masks)
    budgets = reference.layer_budgets(*statistics, window=window, retention=0.3, **masks)
    indices, counts = reference.select(wanted, budgets, **masks)
    case = Case(layers=len(keys))
    asked = {"retention": 0.3, "heads": heads, "scale": scale}
    unsure = borderline_sets(case, Inputs(keys, keys, queries, visual, valid), asked)
    assert unsure.float().mean() < 0.5
    for i, layer in enumerate(cache._compressible.values()):
        for b in range(len(visual)):
            for h in range(indices[i].shape[1]):
                if not unsure[i, b, h]:
                    held = layer.positions[b, h]
                    assert held[held >= 0].tolist() == indices[i][b, h, : counts[i, b]].tolist()


@torch.no_grad()
def test_the_window_is_the_whole_instruction_up_to_its_maximum(used):
    model = models.build("llava")
    x = models.inputs("llava", Prompt((2, "image", 30), 1), Prompt((2, "image", 7), 2))
    with CompressedCache(model) as cache:
        model(**x, past_key_values=cache)
    with CompressedCache(model, max_window=12) as cache:
        model(**x, past_key_values=cache)
    (_, whole, _), (_, last, _) = used
    assert [q.shape[2] for q in whole] == [30] * models.LAYERS
    for q, short in zip(whole, last, strict=True):
        assert torch.equal(short, q[:, :, -12:])
        assert short.untyped_storage().nbytes() == short.nbytes  # not a view of all queries
