"""Random shapes, strides, masks, amounts and garbage: nothing crashes, nothing is lost.

Checked without the reference, so that NaN and inf may stand anywhere. It is also what runs under
AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import math
import random
from functools import partial

import pytest
import torch

import aircache_ext
from aircache_ext import _checks, ops
from cases import BF16, FP16, FP32, Inputs, store
from promises import bits, check_compressed, check_kept, check_totals

NOT_FINITE = (math.nan, math.inf, -math.inf)
GARBAGE = (*NOT_FINITE, 3e38, -3e38, 1e-45, -0.0)


class Fuzz:
    """One random call."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        r = self.random
        self.layers, self.batch = r.choice([1, 1, 2, 5]), r.choice([1, 1, 2, 4])
        self.kv_heads, self.group = r.choice([1, 2, 3]), r.choice([1, 2, 3, 7])
        self.seq = r.choice([1, 2, 7, r.randint(1, 40), r.randint(1, 200), r.randint(1, 600)])
        self.window = r.choice([1, self.seq, r.randint(1, self.seq)])
        self.head_dim, self.value_dim = r.randint(1, 140), r.randint(1, 140)
        self.dtype = r.choice([FP32, FP16, BF16])
        self.garbage = r.random() < 0.4

    def tensor(self, heads: int, rows: int, dim: int) -> torch.Tensor:
        r = self.random
        shape = (self.batch, heads, rows, dim)
        tensor = torch.randn(shape, generator=self.generator) * r.choice([0.1, 1, 10])
        if self.garbage:
            at = torch.rand(shape, generator=self.generator) < r.choice([0.001, 0.1, 1])
            tensor[at] = torch.tensor(GARBAGE)[
                torch.randint(len(GARBAGE), (int(at.sum()),), generator=self.generator)
            ]
        return store(tensor.to(self.dtype), r.choice(["bhsd", "bshd", "sliced"]))

    def mask(self) -> torch.Tensor:
        """Noise, a span, all or nothing."""
        r, shape = self.random, (self.batch, self.seq)
        kind = r.choice(["noise", "span", "span", "span", "all", "none"])
        if kind == "noise":
            return torch.rand(shape, generator=self.generator) < r.random()
        mask = torch.full(shape, kind == "all")
        if kind == "span":
            for row in mask:
                first = r.randrange(self.seq)
                row[first : r.randint(first, self.seq)] = True
        return mask

    def inputs(self) -> Inputs:
        heads = self.kv_heads
        keys, values, queries = (
            [self.tensor(*shape) for _ in range(self.layers)]
            for shape in (
                (heads, self.seq, self.head_dim),
                (heads, self.seq, self.value_dim),
                (heads * self.group, self.window, self.head_dim),
            )
        )
        valid = torch.ones(self.batch, self.seq, dtype=torch.bool)
        if self.random.random() < 0.5:
            valid = ~self.mask()
        return Inputs(keys, values, queries, self.mask(), valid)

    def options(self) -> dict:
        r = self.random
        options = {
            "alpha": r.choice([0.0, 0.9, 1.0, r.random()]),
            "heads": r.choice(_checks.HEADS),
            "scale": r.choice([None, None, 0.0, -1.0, 1e30, r.random(), r.choice(NOT_FINITE)]),
        }
        amount = r.choice(["retention", "budget", "row budgets", None])
        if amount == "retention":
            options["retention"] = r.choice([1.0, 1e-9, r.uniform(0.001, 1)])
        elif amount == "budget":
            options["budget"] = r.choice([1, r.randint(1, self.seq + 3), 2**40])
        elif amount == "row budgets":
            low, high = r.choice([(-5, 5), (1, 300), (-(2**62), 2**62)])
            options["budget"] = torch.randint(low, high, (self.batch,), generator=self.generator)
        return options

    def elite(self) -> torch.Tensor:
        """Anyone, padding too."""
        shape = (self.layers, self.batch, self.window)
        return torch.rand(shape, generator=self.generator) < self.random.random()

    def scoring_options(self) -> dict:
        r = self.random
        heads, softmax = r.choice(_checks.HEADS), r.choice(_checks.SOFTMAXES)
        n = r.choice([0.0, 1.0, 1e30]) if softmax == "full" else 0.0
        lse = None
        if softmax == "full" and n == 0 and r.random() < 0.5:
            lse = self.tensor(self.kv_heads * self.group, self.layers, self.window).float()
            lse = lse.permute(2, 0, 1, 3).contiguous()
        return {"heads": heads, "softmax": softmax, "softmax_n": n, "lse": lse}

    def lengths(self) -> torch.Tensor:
        """Of rows or of rows and KV heads; some are none or more than there can be."""
        shape = self.random.choice([(self.batch,), (self.batch, self.kv_heads)])
        lengths = torch.randint(-2, self.seq + 3, shape, generator=self.generator)
        return lengths.to(torch.int32)

    def capacity(self):
        r = self.random
        largest = r.choice([3, self.seq, 2 * self.seq + 5])
        per_layer = [r.randint(1, largest) for _ in range(self.layers)]
        return r.choice([None, per_layer[0], per_layer, tuple(per_layer)])


def check_call(seed: int) -> None:
    fuzz = Fuzz(seed)
    x, options, capacity = fuzz.inputs(), fuzz.options(), fuzz.capacity()
    mode = fuzz.random.choice(_checks.BUDGET_MODES)
    k, v = x.keys[0].clone(), x.values[0].clone()
    compress_layers = partial(
        aircache_ext.compress_layers, *x.cache, **x.masks, capacity=capacity, budget_mode=mode
    )
    compress_ = partial(aircache_ext.compress_, k, v, x.queries[0], **x.masks)
    scale = options["scale"]
    if scale is not None and not math.isfinite(scale):
        for compress in (compress_layers, compress_):
            with pytest.raises(ValueError, match=f"^scale is {scale} but must be finite"):
                compress(**options)
        options["scale"] = None  # and the same call goes on

    kept = compress_layers(**options)
    check_totals(
        x, torch.stack([layer.counts for layer in kept]), {**options, "capacity": capacity}
    )
    for layer, ours in enumerate(kept):
        check_compressed(x, layer, ours)
        if capacity is None:
            assert ours.indices.shape[2] == int(ours.counts.max())

    indices, counts = compress_(**options)
    check_totals(x, counts[None], options)
    check_kept(x, 0, k, v, indices, counts)

    scores = ops.window_scores(x.queries, x.keys, fuzz.elite(), **x.masks, **fuzz.scoring_options())
    check_window_counts(x, fuzz)
    outside = ~(x.visual & x.valid)[:, None].expand(scores.shape[1:])
    assert not scores[:, outside].any()
    check_decoding(x, fuzz)


def check_window_counts(x: Inputs, fuzz: Fuzz) -> None:
    """The scores of a full softmax again, and no more weights than there are."""
    judges, options = fuzz.elite(), {"heads": fuzz.random.choice(_checks.HEADS), **x.masks}
    scores, counts = ops.window_scores_and_counts(
        x.queries, x.keys, judges, threshold=fuzz.random.choice([1e-30, 0.01, 1.0]), **options
    )
    full = ops.window_scores(x.queries, x.keys, judges, softmax="full", **options)
    assert torch.equal(bits(scores), bits(full))
    seen = (x.visual & x.valid).cumsum(1)[:, -fuzz.window :]
    most = (seen * judges).sum(2) * x.queries[0].shape[1]
    assert ((counts >= 0) & (counts <= most)).all()


def check_decoding(x: Inputs, fuzz: Fuzz) -> None:
    """Other garbage beyond the lengths, the same bits; a mean of the values in use; of none, 0."""
    query, lengths, scale = x.queries[0][:, :, -1], fuzz.lengths(), fuzz.random.choice([None, 0.3])
    seen = torch.arange(fuzz.seq) < lengths.view(fuzz.batch, -1, 1)  # [B, 1 or Hkv, S]
    seen = seen.expand(-1, fuzz.kv_heads, -1)
    k, v = x.keys[0], x.values[0]
    results = []
    for _ in range(2):
        for tensor in (k, v):
            garbage = torch.tensor(fuzz.random.choice(GARBAGE)).to(fuzz.dtype)
            tensor.masked_fill_(~seen[..., None], garbage)
        results.append(ops.decode_attention(query, k, v, lengths, scale=scale))
    (out, lse), again = results
    assert torch.equal(bits(out), bits(again.out)) and torch.equal(bits(lse), bits(again.lse))

    out, lse = out.unflatten(1, (fuzz.kv_heads, -1)), lse.unflatten(1, (fuzz.kv_heads, -1))
    empty = ~seen.any(2)
    assert not out[empty].any() and (lse[empty] == -math.inf).all()
    if not fuzz.garbage:
        low, high = (torch.where(seen[..., None], v.float(), end) for end in (math.inf, -math.inf))
        low, high = low.amin(2)[:, :, None], high.amax(2)[:, :, None]  # [B, Hkv, 1, Dv]
        slack = 4 * torch.finfo(fuzz.dtype).eps * torch.maximum(low.abs(), high.abs())
        within = (out >= low - slack) & (out <= high + slack)
        assert within[~empty].all() and lse[~empty].isfinite().all()


def check_calls(seeds: range) -> None:
    for seed in seeds:
        check_call(seed)


# 200 calls each time, 2,000 in the full tier, the same ones every time.
@pytest.mark.parametrize("block", range(4))
def test_fuzz(block):
    check_calls(range(50 * block, 50 * (block + 1)))


@pytest.mark.full
@pytest.mark.parametrize("block", range(4, 40))
def test_fuzz_more(block):
    check_calls(range(50 * block, 50 * (block + 1)))


def test_fuzz_on_two_threads(threads):
    threads(2)
    check_calls(range(20))
