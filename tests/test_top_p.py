"""PrefixKV's budgets: the limit of the bisection that the paper describes."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given

from aircache_ext.methods.top_p import top_p_budgets

GAP = 1e-10  # between shares of attention; masses are rounded to 2**-40 of a layer's


def prefix_shares(mass: list[float]) -> list[float]:
    order = sorted(mass, reverse=True)
    return [math.fsum(order[: o + 1]) / math.fsum(order) for o in range(len(order))]


def needed(shares: list[float], most: int, p: float) -> int:
    """``R_l(p)``: the fewest tokens that hold the share p, or all that may stay."""
    return next((o for o, share in enumerate(shares[:most], 1) if share >= p), most)


def bisected(layers: list[list[float]], most: list[int], total: int) -> list[int]:
    """Where no two layers step at the same p, some p gives every total."""
    low, high = 0.0, 1.0
    for _ in range(80):
        p = (low + high) / 2
        sizes = [needed(shares, cap, p) for shares, cap in zip(layers, most, strict=True)]
        if sum(sizes) == total:
            return sizes
        low, high = (p, high) if sum(sizes) < total else (low, p)
    raise AssertionError("two layers step together")


def ours(masses, most, total, counted=None) -> list[int]:
    mass = torch.tensor(masses, dtype=torch.float32)[:, None]
    counted = torch.ones(1, mass.shape[2], dtype=torch.bool) if counted is None else counted
    budgets = top_p_budgets(mass, counted, torch.tensor(most)[:, None], torch.tensor([total]))
    assert budgets.dtype == torch.int32
    return budgets[:, 0].tolist()


@st.composite
def problems(draw):
    """Layers of attention, from even to all on one token; what fits; and a total that does."""
    layers, seq = draw(st.integers(1, 6)), draw(st.integers(1, 24))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    width = torch.tensor(draw(st.lists(st.floats(0.1, 4), min_size=layers, max_size=layers)))
    mass = (torch.randn(layers, seq, generator=random) * width[:, None]).softmax(-1)
    most = draw(st.lists(st.integers(1, seq), min_size=layers, max_size=layers))
    return mass.tolist(), most, draw(st.integers(layers, sum(most)))


@given(problems())
def test_is_what_bisection_finds(problem):
    mass, most, total = problem
    layers = [prefix_shares(of_layer) for of_layer in mass]
    steps = sorted(p for shares, cap in zip(layers, most, strict=True) for p in shares[: cap - 1])
    assume(all(b - a > GAP for a, b in zip(steps, steps[1:], strict=False)))
    assert ours(mass, most, total) == bisected(layers, most, total)


@given(problems(), st.integers(1, 5))
def test_what_is_not_counted_does_not_matter(problem, more):
    mass, most, total = problem
    padded = [[9.0, *of_layer, *[math.nan] * more] for of_layer in mass]
    counted = torch.tensor([[False, *[True] * len(mass[0]), *[False] * more]])
    assert ours(padded, most, total, counted) == ours(mass, most, total)


@given(problems(), st.sampled_from([0.0, math.nan]))
def test_totals_are_exact_whatever_the_masses(problem, worth):
    mass, most, total = problem
    mass[0] = [worth] * len(mass[0])
    budgets = ours(mass, most, total)
    assert sum(budgets) == total
    assert all(1 <= n <= cap for n, cap in zip(budgets, most, strict=True))


def test_a_worked_example():
    """Shares .5 .8 .95 1 and .9 .96 .99 1: of six tokens, p = 0.9 takes three and one; the fifth
    goes at .95 and the sixth at .96."""
    even, peaked = [0.5, 0.3, 0.15, 0.05], [0.9, 0.06, 0.03, 0.01]
    assert [ours([even, peaked], [4, 4], total) for total in range(2, 9)] == [
        [1, 1], [2, 1], [3, 1], [3, 2], [4, 2], [4, 3], [4, 4],
    ]  # fmt: skip


def test_equal_shares_go_to_the_lower_layer():
    half = [0.5, 0.25, 0.125, 0.125]
    assert ours([half] * 3, [4] * 3, 4) == [2, 1, 1]
    assert ours([half] * 3, [4] * 3, 8) == [3, 3, 2]
    assert ours([half] * 3, [1, 3, 4], 7) == [1, 3, 3]


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_a_layer_without_attention_has_all_tokens_alike(nothing):
    assert ours([[nothing] * 8, [1 / 8] * 8], [8, 8], 10) == [5, 5]


def test_rows_are_by_themselves():
    """Also one where nothing is counted."""
    mass = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(0))
    counted = torch.ones(4, 9, dtype=torch.bool)
    counted[1] = False
    most = counted.sum(1).expand(3, -1)
    total = torch.tensor([5, 0, 20, 27])
    together = top_p_budgets(mass, counted, most, total)
    assert together.sum(0).tolist() == total.tolist()
    for row in range(4):
        one = slice(row, row + 1)
        alone = top_p_budgets(mass[:, one], counted[one], most[:, one], total[one])
        assert torch.equal(alone, together[:, one])
