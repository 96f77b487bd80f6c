"""What must hold of every method whatever the numbers are."""

from dataclasses import replace

import pytest
import torch

import aircache_ext
from aircache_ext.methods import TOVA
from cases import BF16, FP32, PROMPTS
from methods_cases import METHODS, MODEL, compress_layers, evictable_as_visual, inputs
from promises import check_compressed, check_row, same

every_method = pytest.mark.parametrize("method", METHODS, ids=str)


@every_method
def test_retention_one_keeps_everything(method, backend):
    for prompt in PROMPTS:
        x = inputs(replace(MODEL, prompt=prompt))
        ours = compress_layers(x, method, {"retention": 1.0}, backend.device)
        for layer, compressed in enumerate(ours):
            check_compressed(evictable_as_visual(x, method), layer, compressed)
            assert torch.equal(compressed.counts, x.valid.sum(1).int())


@every_method
def test_without_padding_retention_one_is_the_cache_itself(method, backend):
    x = inputs(MODEL).to(backend.device)
    ours = aircache_ext.compress(
        x.keys[0], x.values[0], x.queries[0], visual=x.visual, retention=1, method=method
    )
    assert torch.equal(ours.keys, x.keys[0])
    assert torch.equal(ours.values, x.values[0])


@every_method
@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("prompt", ["left padding", "padding everywhere"])
def test_a_row_of_a_padded_batch_is_the_row_alone(method, dtype, prompt, backend):
    """Whole prompts as windows, so that both have the same judges; per layer 11 tokens, say."""
    x = inputs(replace(MODEL, prompt=prompt, dtype=dtype)).to(backend.device)
    batched = aircache_ext.compress_layers(*x.cache, **x.masks, budget=11, method=method)
    for row, valid in enumerate(x.valid):
        real = valid.nonzero().flatten()
        alone = aircache_ext.compress_layers(
            *([t[row : row + 1, :, real] for t in tensors] for tensors in x.cache),
            visual=x.visual[row : row + 1, real],
            budget=11,
            method=method,
        )
        check_row(batched, row, alone, real)


@every_method
@pytest.mark.parametrize("prompt", ["one image", "padding everywhere"])
def test_bitwise_the_same_again_and_on_any_number_of_threads(method, prompt, backend, threads):
    x = inputs(replace(MODEL, prompt=prompt, dtype=BF16)).to(backend.device)

    def run():
        return aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3, method=method)

    first = run()
    assert same(first, run())
    threads(2)
    assert same(first, run())


@every_method
def test_compress_and_compress_in_place_are_the_case_of_one_layer(method, backend):
    x = inputs(replace(MODEL, prompt="padding everywhere", layers=1)).to(backend.device)
    options = {"retention": 0.3, "method": method, **x.masks}
    (expected,) = aircache_ext.compress_layers(*x.cache, **options)
    k, v, q = (tensors[0] for tensors in x.cache)
    assert same([aircache_ext.compress(k, v, q, **options)], [expected])
    indices, counts = aircache_ext.compress_(k, v, q, **options)
    assert torch.equal(counts, expected.counts)
    for row, n in enumerate(counts.tolist()):
        assert torch.equal(indices[row, :, :n], expected.indices[row, :, :n])
        assert torch.equal(k[row, :, :n], expected.keys[row, :, :n])
        assert torch.equal(v[row, :, :n], expected.values[row, :, :n])


@pytest.mark.parametrize("evict_text", [False, True])
def test_the_paper_s_default_amount_is_a_tenth(evict_text, backend):
    """61 visual tokens of 79: 12.2 or 15.8 of two layers."""
    x = inputs(replace(MODEL, layers=2))
    ours = compress_layers(x, TOVA(evict_text=evict_text), {}, backend.device)
    counts = torch.stack([layer.counts for layer in ours])
    assert counts.tolist() == ([[8] * 2] * 2 if evict_text else [[6 + 18] * 2] * 2)
