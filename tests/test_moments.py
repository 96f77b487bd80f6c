"""Strength and skewness: fp64 sums of fp32 scores, close to exact arithmetic."""

import math
from fractions import Fraction

import pytest
import torch

from aircache_ext import ops, reference
from cases import PROMPTS, tokens

EPS = torch.finfo(torch.float64).eps


def exact_moments(scores: list[float]) -> tuple[float, float]:
    """By the definition, in rational numbers; only the last square root rounds."""
    values = [Fraction(x) for x in scores]
    n = len(values)
    mean = sum(values) / n
    variance = sum((x - mean) ** 2 for x in values) / (n - 1)
    cubes = sum((x - mean) ** 3 for x in values)
    # The cube root of the variance's cube, without leaving the range of a float.
    skewness = math.copysign(math.sqrt(cubes**2 / variance**3), cubes)
    return float(sum(values)), n / ((n - 1) * (n - 2)) * skewness


SAMPLES = {
    "uniform": lambda n: torch.rand(n),
    "long tail": lambda n: torch.randn(n).mul(2).exp() / n,
    "one peak": lambda n: torch.full((n,), 1e-6).index_fill(0, torch.tensor([n // 2]), 0.9),
    "nearly equal": lambda n: 0.001 + 1e-7 * torch.rand(n),
    "subnormal": lambda n: 1e-42 * torch.rand(n),
    "left tail": lambda n: 1 - torch.randn(n).exp(),
}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("n", [3, 17, 1000])
def test_close_to_exact_arithmetic(sample, n, backend):
    torch.manual_seed(n)
    scores = SAMPLES[sample](n)
    visual = torch.ones(1, n, dtype=torch.bool, device=backend.device)
    strength, skewness = ops.moments(scores.view(1, 1, 1, n).to(backend.device), visual=visual)
    s, k = exact_moments(scores.tolist())
    # Every score has a relative rounding error of EPS when the mean is taken off, every sum of n
    # terms one of at most n * EPS; deviations are relative to the spread.
    terms = (scores.double() - scores.double().mean()) / scores.double().std()
    condition = (1 + scores.double().abs().max() / scores.double().std()) * terms.abs().pow(3).sum()
    assert abs(strength.item() - s) <= n * EPS * scores.double().abs().sum()
    assert abs(skewness.item() - k) <= 8 * n * EPS * float(condition) * n / ((n - 1) * (n - 2))


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_equals_the_reference(prompt, heads, backend):
    visual, valid = tokens(*PROMPTS[prompt])
    torch.manual_seed(heads)
    scores = torch.randn(3, len(visual), heads, visual.shape[1]).exp()
    expected = reference.moments(scores, visual=visual, valid=valid)
    masks = {"visual": visual.to(backend.device), "valid": valid.to(backend.device)}
    strength, skewness = ops.moments(scores.to(backend.device), **masks)
    # Both round a few hundred terms of comparable size.
    torch.testing.assert_close(strength.cpu(), expected[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(skewness.cpu(), expected[1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("factor", [0.25, 2.0, 1024.0])
@pytest.mark.parametrize("offset", [0.0, 1.0, 5.0])
def test_skewness_ignores_factor_and_offset(factor, offset, backend):
    """Integers times powers of two: the scores themselves do not round."""
    torch.manual_seed(0)
    scores = torch.randint(0, 50, (1, 1, 1, 40), device=backend.device).float()
    visual = torch.ones(1, 40, dtype=torch.bool, device=backend.device)
    _, expected = ops.moments(scores, visual=visual)
    _, skewness = ops.moments(factor * scores + offset, visual=visual)
    assert skewness.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("others", [(1.0, 2.0, 4.0), (2.0, 2.0, 2.0)])
def test_nan_stays_nan(others, backend):
    """So that the budgets see it, and share that term equally."""
    scores = torch.tensor([*others, math.nan], device=backend.device).view(1, 1, 1, 4)
    visual = torch.ones(1, 4, dtype=torch.bool, device=backend.device)
    strength, skewness = ops.moments(scores, visual=visual)
    assert strength.isnan().all()
    assert skewness.isnan().all()
