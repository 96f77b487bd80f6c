"""reference.py against the paper's formulas written as plain loops, and against scipy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

import paper_loops
from aircache_ext import reference
from cases import BASE, PROMPTS, Case

# Loops are slow: small heads, and every prompt once.
CASES = [
    Case(prompt=prompt, layers=2, kv_heads=2, group=3, head_dim=5, window=window, seed=seed)
    for seed, prompt in enumerate(PROMPTS)
    for window in (6, 19)
]


def rows(inputs):
    """``(layer, row, query, key, visual, valid)`` as float64 arrays and lists of bools."""
    for layer, (query, key) in enumerate(zip(inputs.queries, inputs.keys, strict=True)):
        for row in range(len(inputs.visual)):
            yield (
                layer,
                row,
                query[row].double().numpy(),
                key[row].double().numpy(),
                inputs.visual[row].tolist(),
                inputs.valid[row].tolist(),
            )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 0.9])
def test_scores_and_statistics(case, alpha):
    x, scale = case.inputs(), 0.7
    a = reference.instruction_attention(x.queries, x.keys, scale=scale, **x.masks)
    elite = reference.elite_window(a, alpha=alpha, **x.masks)
    shared = reference.window_scores(x.queries, x.keys, elite, scale=scale, **x.masks)
    per_head = reference.window_scores(
        x.queries, x.keys, elite, scale=scale, heads="per_kv_head", **x.masks
    )
    strength, skewness = reference.moments(shared, **x.masks)
    of_heads = reference.moments(per_head, **x.masks)
    for layer, row, query, key, visual, valid in rows(x):
        expected = paper_loops.instruction_attention(query, key, visual, valid, scale)
        np.testing.assert_allclose(a[layer, row].numpy(), expected, rtol=1e-12, atol=1e-15)
        positions = paper_loops.elite_window(expected, visual, valid, alpha)
        assert elite[layer, row].nonzero().flatten().tolist() == positions
        heads = paper_loops.window_scores(query, key, positions, visual, valid, scale)
        np.testing.assert_allclose(
            per_head[layer, row].numpy(),
            [heads[:3].mean(0), heads[3:].mean(0)],
            rtol=1e-12,
            atol=1e-15,
        )
        mean = heads.mean(0)
        np.testing.assert_allclose(shared[layer, row, 0].numpy(), mean, rtol=1e-12, atol=1e-15)
        seen = [mean[i] for i in paper_loops.visual_positions(visual, valid)]
        for s, k in ((strength, skewness), of_heads):
            assert s[layer, row].item() == pytest.approx(sum(seen), rel=1e-12)
            assert k[layer, row].item() == pytest.approx(
                paper_loops.skewness(seen), rel=1e-9, abs=1e-9
            )


@pytest.mark.parametrize("n", [0.0, 2.5])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_scores_of_a_full_softmax(case, n):
    """Any valid rows of the window may judge: here every third."""
    x, scale = case.inputs(), 0.7
    window = x.queries[0].shape[2]
    elite = (x.valid[:, -window:] & (torch.arange(window) % 3 == 0)).expand(case.layers, -1, -1)
    options = {"scale": scale, "heads": "per_kv_head", "softmax": "full", "softmax_n": n}
    scores = reference.window_scores(x.queries, x.keys, elite, **options, **x.masks)
    for layer, row, query, key, visual, valid in rows(x):
        positions = elite[layer, row].nonzero().flatten().tolist()
        heads = paper_loops.window_scores(query, key, positions, visual, valid, scale, "full", n)
        np.testing.assert_allclose(
            scores[layer, row].numpy(),
            [heads[:3].mean(0), heads[3:].mean(0)],
            rtol=1e-12,
            atol=1e-15,
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_significant_weights(case):
    x, scale, threshold = case.inputs(), 0.7, 0.1
    window = x.queries[0].shape[2]
    judges = (x.valid[:, -window:] & (torch.arange(window) % 3 == 0)).expand(case.layers, -1, -1)
    options = {"scale": scale, **x.masks}
    scores, counts = reference.window_scores_and_counts(
        x.queries, x.keys, judges, threshold=threshold, **options
    )
    full = reference.window_scores(x.queries, x.keys, judges, softmax="full", **options)
    assert torch.equal(scores, full)
    for layer, row, query, key, visual, valid in rows(x):
        positions = judges[layer, row].nonzero().flatten().tolist()
        args = (query, key, positions, visual, valid, scale, threshold)
        assert counts[layer, row] == paper_loops.significant(*args)


def test_skewness_is_scipys():
    random = np.random.default_rng(0)
    for n in (3, 4, 10, 1000):
        values = random.lognormal(size=n)
        scores = torch.tensor(values).view(1, 1, 1, n)
        _, skewness = reference.moments(scores, visual=torch.ones(1, n, dtype=torch.bool))
        assert skewness.item() == pytest.approx(scipy.stats.skew(values, bias=False), rel=1e-12)


# The bisection's t and the reference's t may differ in the last place: random weights are kept
# 1e-6 away from equal fractions, where the rounding to 2**-20 could fall either way.
@pytest.mark.parametrize("seed", range(60))
def test_budgets(seed):
    random = np.random.default_rng(seed)
    for _ in range(5):
        layers = int(random.integers(1, 9))
        strength = random.lognormal(sigma=random.choice([0.1, 1, 3]), size=layers)
        skewness = random.normal(loc=1, scale=2, size=layers)
        strength[random.random(layers) < 0.2] = 0
        n_visual = int(random.integers(1, 80))
        caps = random.integers(1, n_visual + 1, size=layers).tolist()
        total = int(random.integers(layers, sum(caps) + 1))
        mode = random.choice(["strength+skewness", "strength", "skewness", "uniform", "pyramid"])
        weights = paper_loops.weights(strength.tolist(), skewness.tolist(), mode)
        np.testing.assert_allclose(
            reference.layer_weights(torch.tensor(strength), torch.tensor(skewness), mode).numpy(),
            weights,
            rtol=1e-14,
        )
        targets = reference.layer_targets(torch.tensor(weights, dtype=torch.float64), caps, total)
        ours = reference.whole_numbers(targets, caps, total).tolist()
        assert sum(ours) == total
        if apart(targets):
            assert ours == paper_loops.budgets(weights, caps, total)


def apart(targets, gap=1e-6):
    """No two fractions nearly equal, none nearly whole, unless exactly."""
    fractions = sorted([*(targets % 1).tolist(), 0.0, 1.0])
    return all(b - a == 0 or b - a > gap for a, b in zip(fractions, fractions[1:], strict=False))


@pytest.mark.parametrize("heads", [1, 3])
def test_select(heads):
    random = torch.Generator().manual_seed(heads)
    for prompt in PROMPTS:
        x = Case(prompt=prompt).inputs()
        batch, seq = x.visual.shape
        scores = torch.rand(2, batch, heads, seq, generator=random).mul(30).round()  # with ties
        scores[torch.rand(scores.shape, generator=random) < 0.1] = math.nan
        scores[torch.rand(scores.shape, generator=random) < 0.1] = -0.0
        budgets = torch.randint(0, 70, (2, batch), generator=random)
        indices, counts = reference.select(scores, budgets, **x.masks)
        for layer in range(2):
            for row in range(batch):
                for head in range(heads):
                    expected = paper_loops.kept(
                        scores[layer, row, head].tolist(),
                        int(budgets[layer, row]),
                        x.visual[row].tolist(),
                        x.valid[row].tolist(),
                    )
                    n = len(expected)
                    assert counts[layer, row] == n
                    assert indices[layer][row, head].tolist()[:n] == expected
                    assert (indices[layer][row, head, n:] == -1).all()


def test_float32_on_request():
    """The same definition, in the precision of the kernels."""
    x = replace(BASE, prompt="left padding").inputs()
    single = reference.instruction_attention(x.queries, x.keys, dtype=torch.float32, **x.masks)
    double = reference.instruction_attention(x.queries, x.keys, **x.masks)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)
