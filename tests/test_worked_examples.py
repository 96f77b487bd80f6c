"""Small enough to follow with a pencil. The reference and the kernels both have to agree."""

import math

import pytest
import torch

from aircache_ext import ops, reference
from cases import tokens

pytestmark = pytest.mark.parametrize("method", [reference, ops], ids=["reference", "kernels"])


def heads_of(*heads: list[float]) -> list[torch.Tensor]:
    """One layer of ``[1, heads, rows, 1]``: in one dimension, logits are products."""
    return [torch.tensor(heads)[None, :, :, None]]


def logs(*numbers: float) -> list[float]:
    return [math.log(x) for x in numbers]


def close(result, expected) -> None:
    torch.testing.assert_close(result.double(), torch.tensor(expected).double(), rtol=1e-6, atol=0)


def test_attention_is_a_softmax_over_the_instruction_alone(method):
    visual, _ = tokens("text 1, visual 1, text 2")
    keys = heads_of(logs(50, 70, 4, 1))  # only the last two count: 4 / 5 and 1 / 5
    queries = heads_of([9.0, 1.0])  # only the last query counts
    close(method.instruction_attention(queries, keys, visual=visual, scale=1.0), [[[0.8, 0.2]]])


def test_attention_is_normalised_per_head_before_the_mean(method):
    visual, _ = tokens("visual 1, text 2")
    # 8/10, 2/10 and 1/10, 9/10. The first head's logits are higher, which does not count.
    keys = heads_of(logs(1, 800, 200), logs(1, 1, 9))
    queries = heads_of([0.0, 1.0], [0.0, 1.0])
    close(method.instruction_attention(queries, keys, visual=visual, scale=1.0), [[[0.45, 0.55]]])


def test_query_heads_read_the_kv_head_of_their_group(method):
    """Query heads 0 and 1 read KV head 0, heads 2 and 3 read KV head 1."""
    visual, _ = tokens("visual 1, text 2")
    keys = heads_of(logs(1, 3, 1), logs(1, 1, 9))
    queries = heads_of([0, 1.0], [0, 0.0], [0, 1.0], [0, 0.0])
    # 3/4, 1/2, 1/10, 1/2 on the first token
    expected = (0.75 + 0.5 + 0.1 + 0.5) / 4
    close(
        method.instruction_attention(queries, keys, visual=visual, scale=1.0),
        [[[expected, 1 - expected]]],
    )


def test_the_default_scale_is_one_over_the_root_of_the_head_dim(method):
    visual, _ = tokens("visual 1, text 2")
    keys = [torch.tensor([[0.0] * 4, [math.log(9), 0, 0, 0], [0.0] * 4])[None, None]]
    queries = [torch.tensor([[1.0, 0, 0, 0]] * 2)[None, None]]
    # logit log(9) / 2 = log(3)
    close(method.instruction_attention(queries, keys, visual=visual), [[[0.75, 0.25]]])


def test_scores_of_two_elite_tokens(method):
    """Each reads the visual keys and the elite keys up to itself."""
    visual, _ = tokens("text 1, visual 2, text 3")
    keys = heads_of(logs(99, 1, 2, 1, 77, 4))
    queries = heads_of([1.0, 1.0, 1.0])
    elite = torch.tensor([[[True, False, True]]])
    # first elite token: 1, 2 of 1 + 2 + 1; second: 1, 2 of 1 + 2 + 1 + 4
    expected = [(1 / 4 + 1 / 8) / 2, (2 / 4 + 2 / 8) / 2]
    close(
        method.window_scores(queries, keys, elite, visual=visual, scale=1.0),
        [[[[0, *expected, 0, 0, 0]]]],
    )


def test_scores_of_a_full_softmax(method):
    """Both read all keys up to themselves: the first has a part of the image still to come."""
    visual, _ = tokens("text 1, visual 2, text 1, visual 1, text 1")
    keys = heads_of(logs(5, 1, 2, 8, 3, 1))
    queries = heads_of([1.0, 1.0, 1.0])
    elite = torch.tensor([[[True, False, True]]])
    # first: of 5 + 1 + 2 + 8; second: of 5 + 1 + 2 + 8 + 3 + 1
    expected = [0, (1 / 16 + 1 / 20) / 2, (2 / 16 + 2 / 20) / 2, 0, (0 + 3 / 20) / 2, 0]
    close(
        method.window_scores(queries, keys, elite, visual=visual, scale=1.0, softmax="full"),
        [[[expected]]],
    )


def test_scores_of_an_n_softmax(method):
    """As with one more key of weight n, whose share is lost."""
    visual, _ = tokens("visual 2, text 1")
    keys = heads_of(logs(1, 2, 3))
    query, last = heads_of([1.0]), torch.tensor([[[True]]])
    options = {"visual": visual, "scale": 1.0, "softmax": "full", "softmax_n": 2.0}
    close(method.window_scores(query, keys, last, **options), [[[[1 / 8, 2 / 8, 0]]]])


def test_scores_per_kv_head(method):
    visual, _ = tokens("visual 2, text 1")
    keys = heads_of(logs(1, 2, 1), logs(5, 3, 2))
    queries = heads_of([1.0], [0.0], [1.0], [1.0])
    elite = torch.tensor([[[True]]])
    # heads: (1/4, 2/4), (1/3, 1/3), (5/10, 3/10) twice
    first = [(1 / 4 + 1 / 3) / 2, (2 / 4 + 1 / 3) / 2, 0]
    second = [0.5, 0.3, 0]
    options = {"visual": visual, "scale": 1.0}
    close(
        method.window_scores(queries, keys, elite, heads="per_kv_head", **options),
        [[[first, second]]],
    )
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    close(method.window_scores(queries, keys, elite, **options), [[[mean]]])


def test_moments(method):
    """1, 2, 6: mean 3, deviations -2, -1, 3; variance 14 / 2; cubes sum to 18."""
    visual, valid = tokens("text 1, visual 2, pad 1, visual 1, text 1")
    scores = torch.tensor([9.0, 1, 2, 9, 6, 9]).view(1, 1, 1, 6)
    strength, skewness = method.moments(scores, visual=visual, valid=valid)
    assert strength.dtype == skewness.dtype == torch.float64
    assert strength.item() == 9
    assert skewness.item() == pytest.approx(3 / (2 * 1) * 18 / 7**1.5, rel=1e-14)


def test_moments_of_the_mean_over_heads(method):
    visual, _ = tokens("visual 3")
    scores = torch.tensor([[0.0, 4, 6], [2.0, 0, 6]]).view(1, 1, 2, 3)  # mean: 1, 2, 6
    strength, skewness = method.moments(scores, visual=visual)
    assert strength.item() == 9
    assert skewness.item() == pytest.approx(3 / (2 * 1) * 18 / 7**1.5, rel=1e-14)


@pytest.mark.parametrize("scores", [[5.0], [5.0, 7.0], [0.1] * 7, [0.0] * 4])
def test_skewness_without_a_third_token_or_a_variance_is_zero(method, scores):
    scores = torch.tensor(scores).view(1, 1, 1, -1)
    visual = torch.ones(1, scores.shape[-1], dtype=torch.bool)
    assert method.moments(scores, visual=visual)[1].item() == 0


def test_skewness_is_zero_where_the_mean_over_heads_is_the_same_everywhere(method):
    """... though its sum over three heads, or over the tokens, rounds."""
    scores = torch.tensor([[0.1], [1e-9], [0.7]]).expand(3, 11)[None, None].contiguous()
    visual = torch.ones(1, 11, dtype=torch.bool)
    assert method.moments(scores, visual=visual)[1].item() == 0


def budgets(method, strength, skewness, n_visual, *, text=2, **options) -> list[int]:
    """Of one row with one text token before the image and the rest after it."""
    visual, _ = tokens(f"text 1, visual {n_visual}, text {text - 1}")
    column = {"dtype": torch.float64}
    result = method.layer_budgets(
        torch.tensor(strength, **column)[:, None],
        torch.tensor(skewness, **column)[:, None],
        visual=visual,
        window=1,
        **options,
    )
    assert result.dtype == torch.int32
    return result[:, 0].tolist()


INF, NAN = math.inf, math.nan
STRENGTH = {"budget_mode": "strength"}


@pytest.mark.parametrize(
    ("expected", "strength", "skewness", "n_visual", "options"),
    [
        # Weights (3/4 + 1/4) / 2 and (1/4 + 3/4) / 2.
        ([5, 5], [3, 1], [1, 3], 10, {"retention": 0.5}),
        # (3/4 + 1) / 2 and (1/4 + 0) / 2 of 16: a negative skewness counts as 0.
        ([14, 2], [3, 1], [1, -5], 100, {"retention": 0.08}),
        # No positive skewness: 1/2 each. (3/4 + 1/2) / 2 of 10 is 6.25; 3.75 gets the one left.
        ([6, 4], [3, 1], [-1, 0], 10, {"retention": 0.5}),
        ([6, 4], [3, 1], [NAN, 1], 10, {"retention": 0.5}),
        ([6, 4], [3, 1], [INF, 1], 10, {"retention": 0.5}),
        # The same for strengths: (1/2 + 1/4) / 2 of 10 is 3.75.
        ([4, 6], [0, 0], [1, 3], 10, {"retention": 0.5}),
        ([4, 6], [NAN, 2], [1, 3], 10, {"retention": 0.5}),
        ([4, 6], [INF, 2], [1, 3], 10, {"retention": 0.5}),
        # The default keeps a tenth.
        ([1, 1], [1, 1], [1, 1], 10, {}),
        ([3, 3], [1, 1], [1, 1], 30, {}),
        # One term alone.
        ([15, 5], [3, 1], [0, 9], 100, {"retention": 0.1, **STRENGTH}),
        ([2, 18], [3, 1], [1, 9], 100, {"retention": 0.1, "budget_mode": "skewness"}),
        ([10, 10], [3, 1], [1, 9], 100, {"retention": 0.1, "budget_mode": "uniform"}),
        # 1.95 / 3, 1 / 3, 0.05 / 3 of 90: 58.5, 30, 1.5; the tie goes to the lower layer.
        ([59, 30, 1], [1, 1, 1], [1, 1, 1], 100, {"retention": 0.3, "budget_mode": "pyramid"}),
        ([30], [1], [1], 100, {"retention": 0.3, "budget_mode": "pyramid"}),
        # Ties of equal fractions to the lower layers.
        ([2, 1, 1], [1, 1, 1], [1, 1, 1], 4, {"budget_mode": "uniform", "retention": 1 / 3}),
        # Half a token rounds up.
        ([1], [1], [1], 10, {"retention": 0.05}),
        ([3], [1], [1], 10, {"retention": 0.25}),
        ([1], [1], [1], 10, {"retention": 0.001}),  # but one stays at least
        # 2.5 -+ 2**-22 are the same number of 2**-20ths: the lower layer.
        ([3, 2], [2.5 - 2**-22, 2.5 + 2**-22], [0, 0], 10, {"retention": 0.25, **STRENGTH}),
        # The cap: 13.5 of 15 do not fit into 10 tokens; the rest goes to the other layer.
        ([10, 5], [9, 1], [0, 0], 10, {"retention": 0.75, **STRENGTH}),
        # The floor: layers of no weight keep one.
        ([2, 1, 1], [1, 0, 0], [0, 0, 0], 10, {**STRENGTH, "retention": 4 / 30}),
        # All that has weight is full: 5 more for two layers, the odd one to the lower.
        ([4, 3, 2], [1, 0, 0], [0, 0, 0], 4, {**STRENGTH, "retention": 0.75}),
        # A floor takes from the others in proportion: t * (8, 4, 0.1) with 1 in the last layer.
        ([8, 4, 1], [8, 4, 0.1], [0, 0, 0], 100, {**STRENGTH, "retention": 13 / 300}),
        # Tokens instead of a share: on average per layer, shared by the weights.
        ([5, 5], [1, 1], [1, 1], 10, {"budget": 5}),
        ([12, 4], [3, 1], [0, 0], 100, {"budget": 8, **STRENGTH}),
        ([10, 10], [3, 1], [0, 0], 10, {"budget": 99}),
        ([6, 2], [3, 1], [0, 0], 10, {"budget": torch.tensor([4]), **STRENGTH}),
        ([1, 1], [3, 1], [0, 0], 10, {"budget": torch.tensor([-7])}),
        # Capacity: 2 text tokens leave 4 of 6 slots; what does not fit goes to the other layer.
        ([4, 4], [3, 1], [0, 0], 10, {"budget": 4, **STRENGTH, "capacity": 6}),
        ([4, 6], [3, 1], [0, 0], 10, {"budget": 5, **STRENGTH, "capacity": [6, 99]}),
        # A total that does not fit is lowered to what does.
        ([4, 1], [3, 1], [0, 0], 10, {"retention": 1.0, "capacity": [6, 3]}),
        # No room beside the text: one token all the same.
        ([1, 1], [3, 1], [0, 0], 10, {"retention": 0.5, "capacity": 1}),
    ],
)  # fmt: skip
def test_layer_budgets(method, expected, strength, skewness, n_visual, options):
    assert budgets(method, strength, skewness, n_visual, **options) == expected


def test_budgets_of_rows_with_nothing_to_judge_by(method):
    """No instruction: all is kept, as far as the capacity goes. No image: nothing to keep."""
    visual, valid = tokens("text 2, visual 4", "text 6, pad 0", "pad 2, visual 2, text 2")
    numbers = torch.ones(2, 3, dtype=torch.float64)
    options = {"visual": visual, "valid": valid, "window": 3, "retention": 0.5}
    assert method.layer_budgets(numbers, numbers, **options).tolist() == [[4, 0, 1], [4, 0, 1]]
    limited = method.layer_budgets(numbers, numbers, capacity=[5, 9], **options)
    assert limited.tolist() == [[3, 0, 1], [4, 0, 1]]


def kept(method, scores, budget, rows, **options) -> list[int]:
    visual, valid = tokens(rows)
    indices, counts = method.select(
        torch.tensor(scores).view(1, 1, 1, -1),
        torch.tensor([[budget]], dtype=torch.int32),
        visual=visual,
        valid=valid,
        **options,
    )
    assert indices[0].dtype == torch.int64
    assert counts.dtype == torch.int32
    return [*indices[0][0, 0].tolist(), "of", counts.item()]


@pytest.mark.parametrize(
    ("expected", "scores", "budget", "rows"),
    [
        ([0, 2, 4, 5, "of", 4], [0, 1.0, 3, 1, 2, 0], 2, "text 1, visual 4, text 1"),
        ([0, 5, "of", 2], [0, 1.0, 3, 1, 2, 0], 0, "text 1, visual 4, text 1"),
        ([0, 5, "of", 2], [0, 1.0, 3, 1, 2, 0], -3, "text 1, visual 4, text 1"),
        ([0, 1, 2, 3, 4, 5, "of", 6], [0, 1.0, 3, 1, 2, 0], 9, "text 1, visual 4, text 1"),
        # Equal scores: the lower positions.
        ([0, 1, "of", 2], [2.0, 2, 2, 2], 2, "visual 4"),
        ([1, 2, "of", 2], [1.0, 2, 2, 2], 2, "visual 4"),
        ([0, 1, "of", 2], [-0.0, 0.0, -0.0, 0.0], 2, "visual 4"),
        ([1, 3, "of", 2], [-1e-45, 0.0, -1.0, -0.0], 2, "visual 4"),
        # NaN is below every number, -inf too; NaNs are equal.
        ([1, 3, "of", 2], [NAN, -INF, NAN, 0], 2, "visual 4"),
        ([0, 1, 3, "of", 3], [NAN, -INF, NAN, 0], 3, "visual 4"),
        ([0, 1, "of", 2], [NAN, NAN, NAN, NAN], 2, "visual 4"),
        ([1, 2, "of", 2], [-NAN, INF, 3e38, 0], 2, "visual 4"),
        # Markers stay, padding goes, whatever they score.
        ([3, 4, 5, "of", 3], [9.0, 9, 1, 2, 0, 3], 2, "pad 2, visual 2, text 1, visual 1"),
        (["of", 0], [1.0, 2], 1, "pad 2"),
    ],
)
def test_select(method, expected, scores, budget, rows):
    assert kept(method, scores, budget, rows) == expected


def test_select_into_a_capacity(method):
    rows, scores = "text 1, visual 4, text 1", [0, 1.0, 3, 1, 2, 0]
    assert kept(method, scores, 2, rows, capacity=4) == [0, 2, 4, 5, "of", 4]
    assert kept(method, scores, 2, rows, capacity=8) == [0, 2, 4, 5, -1, -1, -1, -1, "of", 4]
    assert kept(method, scores, 2, rows, capacity=3) == [0, 2, 4, "of", 4]
