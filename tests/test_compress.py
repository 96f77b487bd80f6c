"""compress_layers and compress: the reference's kept sets, and exact copies of what they keep."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

import aircache_ext
from aircache_ext import ops, reference
from borderline import borderline_sets
from cases import BASE, BF16, FP16, FP32, FULL_GRID, GRID, PROMPTS, Case
from promises import check_compressed, check_totals, same

# Budgets are per row and capacities per layer, as far as there are any; scales are relative to the
# default.
TENSOR_BUDGET = (3, 40, 0, 9, 17)
OPTIONS = [
    {},
    {"retention": 0.37},
    {"retention": 0.37, "heads": "per_kv_head"},
    {"retention": 0.25, "alpha": 0.0},
    {"retention": 0.5, "alpha": 1.0, "budget_mode": "strength"},
    {"retention": 0.5, "scale": 0.5, "budget_mode": "skewness"},
    {"budget": 7},
    {"budget": 7, "budget_mode": "uniform", "heads": "per_kv_head"},
    {"budget": TENSOR_BUDGET, "budget_mode": "pyramid"},
    {"retention": 0.5, "capacity": 35},
    {"retention": 0.5, "capacity": (35, 24, 60)},
    {"budget": 20, "capacity": 3},  # less than the text
    {"retention": 0.3, "capacity": 200, "heads": "per_kv_head"},  # more than there is
]


def for_case(case: Case, options: dict) -> dict:
    options = dict(options)
    if "scale" in options:
        options["scale"] = options["scale"] * case.head_dim**-0.5
    if "budget" in options and not isinstance(options["budget"], int):
        rows = len(PROMPTS[case.prompt])
        options["budget"] = torch.tensor(TENSOR_BUDGET[:rows])
    if "capacity" in options and not isinstance(options["capacity"], int):
        options["capacity"] = options["capacity"][: case.layers]
    return options


@cache
def expected(case: Case, option: int):
    x = case.inputs()
    options = for_case(case, OPTIONS[option])
    result = reference.compress_layers(*x.cache, **x.masks, **options)
    return result, borderline_sets(case, x, options)


def check(case: Case, option: int, backend, tally: list[Tensor]) -> None:
    x = case.inputs()
    options = for_case(case, OPTIONS[option])
    right, borderline = expected(case, option)
    y = x.to(backend.device)
    moved = {k: v.to(backend.device) if torch.is_tensor(v) else v for k, v in options.items()}
    ours = aircache_ext.compress_layers(*y.cache, **y.masks, **moved)
    ours = [type(layer)(*(t.cpu() for t in layer)) for layer in ours]

    check_totals(x, torch.stack([layer.counts for layer in ours]), options)
    for layer, (mine, its) in enumerate(zip(ours, right, strict=True)):
        check_compressed(x, layer, mine)
        decided = ~borderline[layer]
        tally.append(borderline[layer].flatten())
        rows = decided.any(1)
        assert torch.equal(mine.counts[rows], its.counts[rows]), (case.id, options)
        width = min(mine.indices.shape[2], its.indices.shape[2])
        same = (mine.indices[..., :width] == its.indices[..., :width]).all(-1)
        assert same[decided].all(), (case.id, options)
        if decided.all():
            assert mine.indices.shape == its.indices.shape


def assert_few(tally: list[Tensor]) -> None:
    sets = torch.cat(tally)
    assert sets.float().mean() < 0.02, f"{int(sets.sum())} of {len(sets)} sets are borderline"


# Every case meets a third of the options, every option a third of the cases; all pairs are in the
# full tier.
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_kept_sets(dtype, backend, isa):
    tally = []
    for i, case in enumerate(case for case in GRID if case.dtype == dtype):
        for option in range(i % 3, len(OPTIONS), 3):
            check(replace(case, seed=i), option, backend, tally)
    assert_few(tally)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_kept_sets_of_all_pairs(dtype, backend, isa):
    tally = []
    for i, case in enumerate(case for case in GRID if case.dtype == dtype):
        for option in range(len(OPTIONS)):
            check(replace(case, seed=100 + i), option, backend, tally)
    assert_few(tally)


# The full product has 4,536 cases: each meets one of the options.
@pytest.mark.full
@pytest.mark.parametrize("prompt", PROMPTS)
def test_kept_sets_of_the_full_grid(prompt, backend):
    tally = []
    for i, case in enumerate(case for case in FULL_GRID if case.prompt == prompt):
        check(replace(case, seed=i), i % len(OPTIONS), backend, tally)
    assert_few(tally)


@pytest.mark.parametrize("layers", [1, 28])
def test_models_of_many_layers(layers, backend):
    """Among 28 fractions two are often close: here the share of borderline sets is larger."""
    case = Case(layers=layers, head_dim=16, value_dim=3, prompt="left padding")
    for option in range(len(OPTIONS)):
        if not isinstance(OPTIONS[option].get("capacity"), tuple):
            check(case, option, backend, tally=[])


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
def test_retention_one_keeps_everything(prompt, heads, backend):
    x = Case(prompt=prompt).inputs().to(backend.device)
    for layer, ours in enumerate(
        aircache_ext.compress_layers(*x.cache, **x.masks, retention=1.0, heads=heads)
    ):
        check_compressed(x, layer, ours)
        assert torch.equal(ours.counts, x.valid.sum(1).int())
        for row, valid in enumerate(x.valid):
            positions = valid.nonzero().flatten()
            assert torch.equal(ours.indices[row, 0, : len(positions)], positions)


def test_without_padding_retention_one_is_the_cache_itself(backend):
    x = BASE.inputs().to(backend.device)
    ours = aircache_ext.compress(x.keys[0], x.values[0], x.queries[0], visual=x.visual, retention=1)
    assert torch.equal(ours.keys, x.keys[0])
    assert torch.equal(ours.values, x.values[0])


def test_rows_with_nothing_to_judge_by_keep_everything(backend):
    """No visual token, or no instruction token in the window; and padding alone keeps nothing."""
    x = Case(prompt="rows that keep everything").inputs().to(backend.device)
    for ours in aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.1):
        assert ours.counts.tolist() == [60, 60, 42, 24, 0]


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
def test_compress_is_the_case_of_one_layer(dtype, heads, backend):
    x = Case(prompt="left padding", dtype=dtype, layers=1).inputs().to(backend.device)
    layer = (x.keys[0], x.values[0], x.queries[0])
    for options in ({}, {"budget": 5}, {"retention": 0.4, "alpha": 0.5}, {"capacity": 40}):
        one = aircache_ext.compress(*layer, **x.masks, heads=heads, **options)
        (same_one,) = aircache_ext.compress_layers(*x.cache, **x.masks, heads=heads, **options)
        assert isinstance(one, aircache_ext.CompressedKV)
        assert same([one], [same_one])
        check_compressed(x, 0, one)
        (right,) = reference.compress_layers(*x.cache, **x.masks, heads=heads, **options)
        assert torch.equal(one.indices, right.indices)
        assert torch.equal(one.counts, right.counts)


@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
def test_the_steps_compose(heads, backend):
    """The call is what its steps give, bit for bit."""
    x = Case(prompt="left padding", layers=3).inputs().to(backend.device)
    attention = ops.instruction_attention(x.queries, x.keys, **x.masks)
    elite = ops.elite_window(attention, **x.masks)
    scores = ops.window_scores(x.queries, x.keys, elite, heads=heads, **x.masks)
    statistics = ops.moments(scores, **x.masks)
    budgets = ops.layer_budgets(*statistics, window=16, retention=0.3, **x.masks)
    indices, counts = ops.select(scores, budgets, **x.masks)
    packed = ops.gather_kv(x.keys, x.values, indices, counts)
    ours = aircache_ext.compress_layers(*x.cache, **x.masks, heads=heads, retention=0.3)
    assert same(ours, zip(*packed, indices, counts, strict=True))


def test_inputs_stay_as_they_are_and_no_graph_comes_out(backend):
    x = BASE.inputs().to(backend.device)
    before = [[t.clone() for t in tensors] for tensors in x.cache]
    for tensors in x.cache:
        for t in tensors:
            t.requires_grad_()
    ours = aircache_ext.compress_layers(*x.cache, **x.masks)
    assert not any(t.requires_grad for layer in ours for t in layer)
    for tensors, unchanged in zip(x.cache, before, strict=True):
        for t, u in zip(tensors, unchanged, strict=True):
            assert torch.equal(t, u)


def test_a_budget_of_the_retention_is_the_retention(backend):
    x = BASE.inputs().to(backend.device)  # 61 visual tokens; 2 layers of 12 are 24.4 of 122
    by_share = aircache_ext.compress_layers(*x.cache, **x.masks, retention=24 / 122)
    assert same(by_share, aircache_ext.compress_layers(*x.cache, **x.masks, budget=12))


def test_uniform_budgets_are_exactly_the_budget(backend):
    x = BASE.inputs().to(backend.device)
    ours = aircache_ext.compress_layers(*x.cache, **x.masks, budget=9, budget_mode="uniform")
    assert [layer.counts.tolist() for layer in ours] == [[9 + 18] * 2] * 2


def test_a_capacity_that_holds_all_changes_nothing_but_the_width(backend):
    x = Case(prompt="left padding").inputs().to(backend.device)
    tight = aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3)
    wide = aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3, capacity=200)
    for a, b in zip(tight, wide, strict=True):
        n = int(a.counts.max())
        assert a.indices.shape[2] == n
        assert b.indices.shape[2] == b.keys.shape[2] == b.values.shape[2] == 200
        assert torch.equal(a.counts, b.counts)
        assert torch.equal(a.indices, b.indices[..., :n])


def test_a_capacity_too_small_for_the_text_shows_in_the_counts(backend):
    """18 text tokens and one visual token into 10 slots: the first ten are written."""
    x = BASE.inputs().to(backend.device)
    for layer, ours in enumerate(aircache_ext.compress_layers(*x.cache, **x.masks, capacity=10)):
        assert ours.counts.tolist() == [19, 19]
        assert ours.keys.shape[2] == 10
        check_compressed(x, layer, ours)
