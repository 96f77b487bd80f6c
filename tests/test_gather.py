"""gather_kv and compact_kv_: bit for bit, from any storage."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aircache_ext import ops, reference
from cases import BF16, FP16, FP32, LAYOUTS, around, moved, store
from promises import INTEGERS, bits

DTYPES = (FP32, FP16, BF16)


def random_bits(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Every bit pattern there is, NaNs with payloads and subnormals among them."""
    random = torch.Generator().manual_seed(seed)
    size = dtype.itemsize
    raw = torch.randint(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1), shape, generator=random)
    return raw.to(INTEGERS[size]).view(dtype)


def kept_tokens(batch, heads, seq, slots, seed=0):
    """Ascending positions, and counts from none to more than there are slots."""
    random = torch.Generator().manual_seed(seed)
    order = torch.rand(batch, heads, seq, generator=random).argsort(dim=-1)[..., : min(slots, seq)]
    indices = torch.full((batch, heads, slots), -1)
    counts = torch.randint(0, min(slots, seq) + 1, (batch,), generator=random)
    counts[0] = min(slots, seq)
    for row, n in enumerate(counts.tolist()):
        indices[row, :, :n] = order[row, :, :n].sort(-1).values
    return indices, counts.int()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", [(64, 64), (128, 80), (33, 1)])
@pytest.mark.parametrize("per_head", [False, True])
def test_gather(dtype, layout, dims, per_head, backend):
    batch, heads, seq = 3, 2, 57
    slots = (57, 20, 1, 70)
    layers = range(len(slots))
    keys, values = (
        [store(random_bits(batch, heads, seq, d, dtype=dtype, seed=i), layout) for i in layers]
        for d in dims
    )
    kept = [kept_tokens(batch, heads if per_head else 1, seq, c, i) for i, c in enumerate(slots)]
    indices = [index for index, _ in kept]
    counts = torch.stack([count for _, count in kept])
    counts[1, 0] += 5  # more than there are slots: those that fit are written

    on_device = [[moved(t, backend.device) for t in ts] for ts in (keys, values, indices)]
    ours = ops.gather_kv(*on_device, counts.to(backend.device))
    for caches, packed in zip((keys, values), ours, strict=True):
        for layer, (cache, out) in enumerate(zip(caches, packed, strict=True)):
            assert out.shape == (batch, heads, slots[layer], cache.shape[3])
            assert out.dtype == dtype
            for row in range(batch):
                n = min(int(counts[layer, row]), slots[layer])
                for head in range(heads):
                    index = indices[layer][row, head if per_head else 0, :n]
                    expected = torch.zeros(slots[layer], cache.shape[3], dtype=dtype)
                    expected[:n] = cache[row, head, index]
                    assert torch.equal(bits(out[row, head].cpu()), bits(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["bhsd", "bshd", "sliced"])
@pytest.mark.parametrize("dims", [(64, 64), (128, 80), (33, 1)])
@pytest.mark.parametrize("per_head", [False, True])
def test_compact(dtype, layout, dims, per_head, backend):
    """The front is what gather_kv gives; no other row of the batch, head or memory is touched."""
    batch, heads, seq = 3, 2, 57
    index, count = kept_tokens(batch, heads if per_head else 1, seq, seq)
    key, value = (store(random_bits(batch, heads, seq, d, dtype=dtype), layout) for d in dims)
    expected = reference.gather_kv([key], [value], [index], count[None])

    caches = [moved(key, backend.device), moved(value, backend.device)]
    whole = [around(cache).clone() for cache in caches]
    ops.compact_kv_(
        [caches[0]], [caches[1]], [index.to(backend.device)], count[None].to(backend.device)
    )
    for cache, (packed,), before in zip(caches, expected, whole, strict=True):
        for row, n in enumerate(count.tolist()):
            assert torch.equal(bits(cache[row, :, :n].cpu()), bits(packed[row, :, :n]))
        outside = torch.ones_like(before, dtype=torch.bool)
        outside.as_strided(cache.shape, cache.stride(), cache.storage_offset()).fill_(False)
        assert torch.equal(bits(around(cache)[outside]), bits(before[outside]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_lie_on_a_device_as_they_do_here(layout):
    here = store(random_bits(3, 2, 7, 5, dtype=BF16), layout)
    there = moved(here, torch.device("meta"))
    assert there.stride() == here.stride()
    assert there.storage_offset() == here.storage_offset()


def test_compact_keys_and_values_in_one_buffer(backend):
    """As caches of shape ``[2, B, H, S, D]`` have them."""
    both = random_bits(2, 1, 2, 40, 16, dtype=BF16).to(backend.device)
    index, count = kept_tokens(1, 1, 40, 12)
    expected = reference.gather_kv([both[0].cpu()], [both[1].cpu()], [index], count[None])
    ops.compact_kv_(
        [both[0]], [both[1]], [index.to(backend.device)], count[None].to(backend.device)
    )
    for cache, (packed,) in zip(both, expected, strict=True):
        assert torch.equal(bits(cache[0, :, :12].cpu()), bits(packed[0]))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_compact_equals_gather(seq, dim, seed, transposed):
    """Any ascending positions: runs, gaps, all and none."""
    key = random_bits(2, 2, seq, dim, dtype=FP32, seed=seed)
    key = store(key, "bshd" if transposed else "bhsd")
    value = key.clone()
    index, count = kept_tokens(2, 2, seq, seq, seed)
    packed, _ = ops.gather_kv([key], [value], [index], count[None])
    ops.compact_kv_([key], [value], [index], count[None])
    for row, n in enumerate(count.tolist()):
        assert torch.equal(bits(key[row, :, :n]), bits(packed[0][row, :, :n]))
        assert torch.equal(bits(value[row, :, :n]), bits(packed[0][row, :, :n]))
