"""What is dropped is freed: storages are counted, not shapes."""

import gc
import weakref

import models
import pytest
import torch
from models import Prompt

from aircache_ext.hf import CompressedCache
from aircache_ext.methods import H2O, AirCache, PrefixKV, SnapKV


def storages(cache) -> int:
    """Bytes of the distinct storages under all tensors that the cache's layers refer to."""
    tensors = [value for layer in cache.layers for value in vars(layer).values()]
    found = {t.untyped_storage().data_ptr(): t for t in tensors if isinstance(t, torch.Tensor)}
    return sum(t.untyped_storage().nbytes() for t in found.values())


@pytest.mark.parametrize("options", [{}, {"heads": "per_kv_head"}, {"method": H2O()}], ids=str)
@torch.no_grad()
def test_the_bytes_are_those_of_the_report(options):
    name = "qwen2_5_vl"
    model = models.build(name)
    x = models.inputs(name, Prompt((*[1, "image"] * 8, 6)))
    with CompressedCache(model, retention=0.1, **options) as cache:
        model(**x, past_key_values=cache)
    report = cache.report()
    length = x["input_ids"].shape[1]
    slot = 2 * models.KV_HEADS * models.HEAD_DIM * 4  # keys and values in fp32
    assert report.bytes_before == models.LAYERS * length * slot
    assert report.bytes_after == sum(kept for [kept] in report.kept.values()) * slot
    assert sum(kept for [kept] in report.kept.values()) == models.LAYERS * 14 + round(0.1 * 3 * 96)
    positions = sum(layer.kept.nbytes for layer in cache.layers)  # where the survivors come from
    assert storages(cache) == report.bytes_after + positions
    assert report.bytes_after < 0.25 * report.bytes_before


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        (AirCache(), 0),  # the instruction has not begun
        (SnapKV(window_size=8), 8 * models.QUERY_HEADS * models.HEAD_DIM),
        (H2O(), models.KV_HEADS * 68),
        (PrefixKV(), 68),
    ],
    ids=str,
)
@torch.no_grad()
def test_what_is_remembered_while_a_turn_is_read(method, numbers):
    """Queries of a window; where all tokens judge, one number for each token, and no queries."""
    model = models.build("llava")
    x = models.inputs("llava", Prompt((*[1, "image"] * 4,)))
    with CompressedCache(model, method=method) as cache:
        model(**x, past_key_values=cache)
    slot = 2 * models.KV_HEADS * models.HEAD_DIM * 4
    held = models.LAYERS * x["input_ids"].shape[1] * slot
    assert storages(cache) - held == models.LAYERS * numbers * 4


@torch.no_grad()
def test_full_tensors_are_gone_with_their_layer():
    """While a layer is gathered, those before it are no longer held in full."""
    model, x = models.build("llava"), models.inputs("llava", models.question())
    full, alive = [], []
    with CompressedCache(model, retention=0.1) as cache:
        for layer in cache.layers:

            def evict(*args, layer=layer, evict=layer.evict, **options):
                full.append(weakref.ref(layer.keys))
                alive.append(sum(ref() is not None for ref in full))
                evict(*args, **options)

            layer.evict = evict
        model(**x, past_key_values=cache)
        assert alive == [1] * models.LAYERS
        assert [ref() for ref in full] == [None] * models.LAYERS


@torch.no_grad()
def test_a_dropped_cache_is_freed_at_once():
    """Without waiting for the garbage collector: nothing refers to it in a circle."""
    model, x = models.build("llava"), models.inputs("llava", models.question())
    gc.collect()
    gc.disable()
    try:
        cache = CompressedCache(model)
        model(**x, past_key_values=cache)
        keys = weakref.ref(cache.layers[0].keys)
        del cache
        assert keys() is None
    finally:
        gc.enable()


@torch.no_grad()
def test_the_report_reads_as_a_table():
    model, x = (
        models.build("llava"),
        models.inputs("llava", models.question(1), Prompt((1, "image", 4))),
    )
    with CompressedCache(model, budget=2, budget_mode="uniform") as cache:
        assert "layer" in str(cache.report())  # also before anything was read
        model(**x, past_key_values=cache)
    report = cache.report()
    assert report.seen == [27, 21]
    assert report.kept == {0: [13, 7], 1: [13, 7], 2: [13, 7]}
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "tokens", "kept", "of", "27", "21"]
    assert lines[2].split() == ["1", "13", "7"]
    assert report.seconds > 0
    assert report.allocated_after is None  # a CPU has no allocator to ask
