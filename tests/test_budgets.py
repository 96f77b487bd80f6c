"""layer_budgets: the reference's integers, and what must hold whatever the statistics."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aircache_ext import _C, _checks, ops, reference
from cases import PROMPTS, tokens

MODES = _checks.BUDGET_MODES

# Strengths and skewnesses as they come, and as they should never come.
statistic = st.one_of(
    st.floats(0, 1),
    st.floats(-5, 5),
    st.sampled_from([0.0, -0.0, 1.0, 1e-30, 1e300, math.nan, math.inf, -math.inf]),
)


@st.composite
def problems(draw):
    """Arguments of layer_budgets for one row, and the row's number of visual tokens."""
    layers = draw(st.integers(1, 12))
    n_visual = draw(st.integers(1, 200))
    n_text = draw(st.integers(1, 5))
    numbers = st.lists(statistic, min_size=layers, max_size=layers)
    options = {"budget_mode": draw(st.sampled_from(MODES))}
    if draw(st.booleans()):
        options["retention"] = draw(st.floats(1e-3, 1))
    else:
        options["budget"] = draw(st.integers(1, 2 * n_visual))
    if draw(st.booleans()):
        slots = st.integers(1, n_visual + n_text + 10)
        options["capacity"] = draw(
            st.one_of(slots, st.lists(slots, min_size=layers, max_size=layers))
        )
    return draw(numbers), draw(numbers), n_visual, n_text, options


def caps_and_total(n_visual, n_text, layers, options):
    capacity = options.get("capacity", n_visual + n_text)
    slots = [capacity] * layers if isinstance(capacity, int) else capacity
    caps = [max(1, min(n_visual, c - n_text)) for c in slots]
    if "budget" in options:
        total = layers * options["budget"]
    else:
        total = math.floor(options["retention"] * (layers * n_visual) + 0.5)
    return caps, min(max(total, layers), sum(caps))


def run(method, strength, skewness, n_visual, n_text, options):
    visual, _ = tokens(f"visual {n_visual}, text {n_text}")
    column = [torch.tensor(x, dtype=torch.float64)[:, None] for x in (strength, skewness)]
    return method.layer_budgets(*column, visual=visual, window=1, **options)[:, 0].tolist()


@given(problems())
def test_totals_are_exact_and_every_layer_within_its_bounds(problem):
    strength, _, n_visual, n_text, options = problem
    budgets = run(ops, *problem)
    caps, total = caps_and_total(n_visual, n_text, len(strength), options)
    assert sum(budgets) == total
    assert all(1 <= b <= cap for b, cap in zip(budgets, caps, strict=True))


@given(problems())
def test_equals_the_reference(problem):
    """Unless two fractions of the targets are within rounding of one another."""
    strength, skewness, n_visual, n_text, options = problem
    caps, total = caps_and_total(n_visual, n_text, len(strength), options)
    columns = (torch.tensor(x, dtype=torch.float64) for x in (strength, skewness))
    weights = reference.layer_weights(*columns, options["budget_mode"])
    steps = reference.layer_targets(weights, caps, total) * 2**20
    near_a_half = ((steps % 1) - 0.5).abs() < 1e-3
    if not near_a_half.any():
        assert run(ops, *problem) == run(reference, *problem)


@given(problems())
def test_more_weight_never_means_fewer_tokens(problem):
    strength, skewness, n_visual, n_text, options = problem
    options = {key: value for key, value in options.items() if key != "capacity"}
    columns = (torch.tensor(x, dtype=torch.float64) for x in (strength, skewness))
    # Layers without weight share what is left equally, negative strengths (garbage) included.
    weights = reference.layer_weights(*columns, options["budget_mode"]).clamp(min=0).tolist()
    budgets = run(ops, strength, skewness, n_visual, n_text, options)
    by_weight = sorted(zip(weights, budgets, strict=True))
    for (light, fewer), (heavy, more) in zip(by_weight, by_weight[1:], strict=False):
        assert fewer <= more + (light == heavy)


@given(problems(), st.floats(0.01, 1), st.floats(-3, 3))
def test_layers_alike_get_the_same(problem, strength, skewness):
    _, _, n_visual, n_text, options = problem
    if options["budget_mode"] == "pyramid":
        return
    options.pop("capacity", None)
    layers = 7
    budgets = run(ops, [strength] * layers, [skewness] * layers, n_visual, n_text, options)
    assert max(budgets) - min(budgets) <= 1
    assert budgets == sorted(budgets, reverse=True)  # what is left goes to the lower layers


@given(problems())
def test_the_numpy_function_agrees(problem):
    """``_C.layer_budgets`` is the same computation without tensors."""
    strength, skewness, n_visual, n_text, options = problem
    caps, _ = caps_and_total(n_visual, n_text, len(strength), options)
    options = {key: value for key, value in options.items() if key != "capacity"}
    from_numbers = _C.layer_budgets(strength, skewness, n_visual, cap=caps, **options)
    with_capacity = {**options, "capacity": [cap + n_text for cap in caps]}
    assert from_numbers.tolist() == run(ops, strength, skewness, n_visual, n_text, with_capacity)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [1, 16, 23, None])
def test_rows_of_a_batch(prompt, mode, window, backend):
    """Every row has its own n_visual, caps and total."""
    visual, valid = tokens(*PROMPTS[prompt])
    masks = {"visual": visual, "valid": valid}
    on_device = {name: mask.to(backend.device) for name, mask in masks.items()}
    random = torch.Generator().manual_seed(window or 0)
    strength = torch.rand(5, len(visual), generator=random, dtype=torch.float64)
    skewness = 3 * torch.randn(5, len(visual), generator=random, dtype=torch.float64)
    budget = torch.randint(-2, 40, (len(visual),), generator=random)
    for options in (
        {},
        {"retention": 0.37},
        {"budget": 11},
        {"budget": budget},
        {"budget": budget.int()},
        {"retention": 0.5, "capacity": 40},
        {"retention": 0.5, "capacity": [30, 1, 90, 20, 50]},
        {"budget": budget, "capacity": [30, 1, 90, 20, 50]},
    ):
        options = {"budget_mode": mode, "window": window, **options}
        expected = reference.layer_budgets(strength, skewness, **masks, **options)
        if isinstance(options.get("budget"), torch.Tensor):
            options["budget"] = options["budget"].to(backend.device)
        numbers = (strength.to(backend.device), skewness.to(backend.device))
        ours = ops.layer_budgets(*numbers, **on_device, **options)
        assert torch.equal(ours.cpu(), expected)


def test_without_a_window_every_row_shares(backend):
    """Nobody asks for an instruction: the total of a row follows from its visual tokens alone."""
    visual, valid = tokens(*PROMPTS["rows that keep everything"])
    masks = {"visual": visual.to(backend.device), "valid": valid.to(backend.device)}
    numbers = torch.rand(2, 3, len(visual), generator=torch.Generator(), dtype=torch.float64)
    numbers = numbers.to(backend.device)
    options = {"retention": 0.5, **masks}
    shared = ops.layer_budgets(*numbers, **options).cpu()
    assert shared.sum(0).tolist() == [0, math.floor(1.5 * 55 + 0.5), 60, 60, 0]
    asked = ops.layer_budgets(*numbers, window=16, **options).cpu()
    assert asked.sum(0).tolist() == [0, 3 * 55, 3 * 40, 60, 0]
