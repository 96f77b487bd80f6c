"""select: exactly the reference's positions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aircache_ext import ops, reference
from cases import PROMPTS, tokens

NAN = math.nan
# Few different values, so that most comparisons are ties; and what floats have beside numbers.
TIES = torch.tensor([0.0, -0.0, 1.0, 2.0, 2.0, -1.0, 1e-45, -1e-45, math.inf, -math.inf, NAN, -NAN])


def equal(ours, expected) -> None:
    assert torch.equal(ours[1].cpu(), expected[1])
    assert ours[1].dtype == torch.int32
    for a, b in zip(ours[0], expected[0], strict=True):
        assert a.dtype == torch.int64
        assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("capacity", [None, 1, 30, 500, (5, 40, 200)])
def test_equals_the_reference(prompt, heads, capacity, backend):
    visual, valid = tokens(*PROMPTS[prompt])
    batch, seq = visual.shape
    random = torch.Generator().manual_seed(heads)
    budgets = torch.randint(-3, seq + 9, (3, batch), generator=random, dtype=torch.int32)
    distinct = torch.randn(3, batch, heads, seq, generator=random)
    tied = TIES[torch.randint(len(TIES), distinct.shape, generator=random)]
    masks = {"visual": visual, "valid": valid}
    on_device = {name: mask.to(backend.device) for name, mask in masks.items()}
    for scores in (distinct, tied):
        equal(
            ops.select(
                scores.to(backend.device),
                budgets.to(backend.device),
                capacity=capacity,
                **on_device,
            ),
            reference.select(scores, budgets, capacity=capacity, **masks),
        )


@st.composite
def rows(draw):
    """One row: scores with ties, a budget and two masks of any pattern."""
    seq = draw(st.integers(1, 70))
    floats = st.one_of(st.sampled_from(TIES.tolist()), st.floats(width=32))
    scores = draw(st.lists(floats, min_size=seq, max_size=seq))
    visual, valid = (draw(st.lists(st.booleans(), min_size=seq, max_size=seq)) for _ in range(2))
    return (
        torch.tensor(scores).view(1, 1, 1, seq),
        torch.tensor([[draw(st.integers(-1, seq + 1))]], dtype=torch.int32),
        {"visual": torch.tensor([visual]), "valid": torch.tensor([valid])},
    )


@given(rows(), st.one_of(st.none(), st.integers(1, 80)))
def test_any_row(row, capacity):
    scores, budgets, masks = row
    equal(
        ops.select(scores, budgets, capacity=capacity, **masks),
        reference.select(scores, budgets, capacity=capacity, **masks),
    )


@given(rows())
def test_a_budget_more_keeps_one_token_more(row):
    """The survivors of a smaller budget are among those of a larger one."""
    scores, budgets, masks = row
    (fewer,), _ = ops.select(scores, budgets, **masks)
    (more,), _ = ops.select(scores, budgets + 1, **masks)
    assert set(fewer.flatten().tolist()) <= set(more.flatten().tolist())
    assert more.shape[2] - fewer.shape[2] in (0, 1)


@pytest.mark.parametrize("n", [4096, 100_003])
def test_long_rows(n, backend):
    torch.manual_seed(n)
    visual = torch.ones(1, n, dtype=torch.bool)
    visual[0, ::17] = False
    for scores in (torch.rand(1, 1, 1, n), torch.randint(0, 9, (1, 1, 1, n)).float()):
        for budget in (0, 1, n // 10, n - n // 17 - 2, n):
            budgets = torch.tensor([[budget]], dtype=torch.int32)
            on_device = (t.to(backend.device) for t in (scores, budgets))
            equal(
                ops.select(*on_device, visual=visual.to(backend.device)),
                reference.select(scores, budgets, visual=visual),
            )
