"""compress_: what compress keeps, at the front of the cache itself."""

import pytest
import torch

import aircache_ext
from cases import BF16, FP16, FP32, PROMPTS, Case


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
@pytest.mark.parametrize("layout", ["bhsd", "bshd", "sliced"])
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_survivors_stand_at_the_front(dtype, layout, heads, prompt, backend):
    x = Case(prompt=prompt, dtype=dtype, layout=layout, layers=1).inputs().to(backend.device)
    (key,), (value,), (query,) = x.cache
    for options in ({}, {"retention": 0.6}, {"budget": 4, "alpha": 0.2}, {"retention": 1.0}):
        expected = aircache_ext.compress(key, value, query, **x.masks, heads=heads, **options)
        k, v = key.clone(), value.clone()
        indices, counts = aircache_ext.compress_(k, v, query, **x.masks, heads=heads, **options)
        seq, slots = key.shape[2], expected.indices.shape[2]
        assert indices.shape == (*expected.indices.shape[:2], seq)
        assert torch.equal(counts, expected.counts)
        assert torch.equal(indices[..., :slots], expected.indices)
        assert (indices[..., slots:] == -1).all()
        for row, n in enumerate(counts.tolist()):
            assert torch.equal(k[row, :, :n], expected.keys[row, :, :n])
            assert torch.equal(v[row, :, :n], expected.values[row, :, :n])


def test_a_budget_per_row(backend):
    x = Case(prompt="left padding", layers=1).inputs().to(backend.device)
    budget = torch.tensor([5, 0], device=backend.device)
    indices, counts = aircache_ext.compress_(
        x.keys[0], x.values[0], x.queries[0], **x.masks, budget=budget
    )
    assert counts.tolist() == [16 + 5, 28 + 1]
    assert (indices >= 0).sum(-1).flatten().tolist() == [21, 29]


def test_queries_and_masks_stay_as_they_are(backend):
    x = Case(layers=1).inputs().to(backend.device)
    before = [t.clone() for t in (x.queries[0], x.visual, x.valid)]
    aircache_ext.compress_(x.keys[0], x.values[0], x.queries[0], **x.masks)
    for tensor, unchanged in zip((x.queries[0], x.visual, x.valid), before, strict=True):
        assert torch.equal(tensor, unchanged)
