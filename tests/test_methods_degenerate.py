"""Every method where there is little to go by: ties, garbage, tiny budgets, short windows."""

from dataclasses import replace

import pytest
import torch

import methods_loops
import methods_rows
from aircache_ext.methods import (
    CSP,
    H2O,
    TOVA,
    AirCache,
    PrefixKV,
    PyramidKV,
    Random,
    SnapKV,
    StreamingLLM,
    Uniform,
    VLCache,
)
from cases import Inputs, tokens
from methods_cases import (
    EXACT_TOTAL,
    METHODS,
    MODEL,
    compress_layers,
    evictable_as_visual,
    inputs,
    loop_rows,
    with_amount,
)
from promises import check_compressed

every_method = pytest.mark.parametrize("method", METHODS, ids=str)


def alike(*rows: str, layers: int = 2) -> Inputs:
    """Keys that are all one: every judge pays all that it sees alike."""
    visual, valid = tokens(*rows)
    batch, seq = visual.shape
    key, query = torch.ones(batch, 2, seq, 8), torch.ones(batch, 4, seq, 8)
    return Inputs([key] * layers, [key] * layers, [query] * layers, visual, valid)


ROW = "pad 2, text 3, visual 30, text 5"  # visual 5 .. 34 at most; 0 and 1 are none
TIES = {
    # method: what 6 of the visual tokens are that stay, from position 5 on
    SnapKV(window_size=4, kernel_size=1): range(5, 11),
    SnapKV(window_size=4, kernel_size=1, pooling="max", heads="shared"): range(5, 11),
    SnapKV(window_size=7, kernel_size=1): [*range(5, 9), 33, 34],  # two judge
    PyramidKV(window_size=4, kernel_size=1, beta=1): range(5, 11),
    TOVA(): range(5, 11),
    StreamingLLM(sinks=5): [5, 6, *range(31, 35)],  # three sinks are text
    H2O(): range(5, 11),  # who came earlier was seen by more; the last three are text
    H2O(recent=1.0): [*range(5, 10), 34],
    PrefixKV(start_size=1): range(5, 11),
    VLCache(): range(5, 11),
    CSP(cross=0.5): range(5, 11),
    Uniform(): [9, 14, 19, 24, 29, 34],
}


@pytest.mark.parametrize("method", TIES, ids=str)
def test_equal_scores_go_to_the_lower_position(method, backend):
    x = alike(ROW)
    for layer in compress_layers(x, method, {"budget": 6}, backend.device):
        for kept in layer.indices[0].tolist():
            assert kept == [2, 3, 4, *TIES[method], *range(35, 40)]


@every_method
@pytest.mark.parametrize("prompt", ["one image", "padding everywhere", "long instruction"])
def test_a_budget_of_one_token(method, prompt, backend):
    """Less than what always stays: one token it is, and of those that always stay the last."""
    x = inputs(replace(MODEL, prompt=prompt))
    ours = compress_layers(x, method, {"budget": 1}, backend.device)
    for layer, compressed in enumerate(ours):
        check_compressed(evictable_as_visual(x, method), layer, compressed)
        text = 0 if method.evict_text else (x.valid & ~x.visual).sum(1)
        assert torch.equal(compressed.counts, (x.valid.any(1) + text).int())
        if method.evict_text and type(method) in (SnapKV, PyramidKV, TOVA, PrefixKV):
            for row, valid in enumerate(x.valid):
                last = int(valid.nonzero().max())
                assert compressed.indices[row, :, 0].eq(last).all()


@pytest.mark.parametrize(
    ("where", "garbage"),
    [
        ("one key", torch.nan),
        ("one key", torch.inf),
        ("an image", -torch.inf),
        ("a query", torch.nan),
        ("everywhere", torch.nan),
        ("everywhere", 3e38),
    ],
)
@every_method
def test_garbage(method, where, garbage, backend):
    """No crash; totals are exact, and where a method rounds for itself each budget is possible."""
    x = inputs(replace(MODEL, prompt="padding everywhere"))
    if where == "one key":
        x.keys[1][0, 0, 7] = garbage
    if where == "an image":
        x.keys[1][:, :, x.visual[0]] = garbage
    if where == "a query":
        x.queries[0][:, 1, -8:] = garbage
    if where == "everywhere":
        for tensor in (*x.keys, *x.queries):
            tensor[:] = garbage
    amount = {"retention": 0.3}
    ours = compress_layers(x, method, amount, backend.device)
    for layer, compressed in enumerate(ours):
        check_compressed(evictable_as_visual(x, method), layer, compressed)
    for i, row in enumerate(with_amount(loop_rows(x), amount)):
        n = len(row.evictable(method.evict_text))
        budgets = [int(layer.counts[i]) - (len(row.tokens) - n) for layer in ours]
        assert all(1 <= budget <= n for budget in budgets)
        if type(method) in EXACT_TOTAL or isinstance(method, AirCache):
            assert sum(budgets) == methods_rows.total(row, method.evict_text)
        if isinstance(method, PyramidKV):  # whose budgets follow no number
            assert budgets == methods_loops.pyramid_budgets(row, True, 4, 4)


# Windows that lack queries


@pytest.mark.parametrize(
    ("method", "window", "needed"),
    [
        (SnapKV(), 31, 32),
        (PyramidKV(window_size=9), 8, 9),
        (SnapKV(window_size=100), 78, 79),  # no more than there are
        (H2O(), 78, 79),
        (PrefixKV(evict_text=True), 1, 79),
    ],
    ids=str,
)
def test_a_window_that_lacks_queries_is_refused(method, window, needed, backend):
    x = inputs(replace(MODEL, window=window))
    message = f"window has {window} queries .* {type(method).__name__} needs .* last {needed} "
    with pytest.raises(ValueError, match=message):
        compress_layers(x, method, {}, backend.device)


@pytest.mark.parametrize(
    "method", [TOVA(), StreamingLLM(), VLCache(), CSP(), Random(), Uniform(), AirCache()], ids=str
)
def test_one_query_is_enough_for_the_others(method, backend):
    x = inputs(replace(MODEL, window=1))
    ours = compress_layers(x, method, {"budget": 5}, backend.device)
    budgets = torch.stack([layer.counts for layer in ours]) - 18
    assert (budgets >= 1).all()
    assert isinstance(method, VLCache) or budgets.sum(0).tolist() == [10, 10]
