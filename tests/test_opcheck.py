"""Torch's opcheck: schemas, fakes and dispatch of every op, on several samples each."""

from dataclasses import replace

import pytest
import torch
from torch import library

from aircache_ext import ops
from cases import BASE, BF16, FP16, Case

CASES = [
    BASE,
    replace(BASE, dtype=BF16, layout="bshd", layers=1, window=1),
    replace(BASE, dtype=FP16, layout="sliced", kv_heads=3, prompt="padding everywhere"),
    replace(BASE, prompt="rows that keep everything", group=1),
]
OPS = torch.ops.aircache

pytestmark = pytest.mark.registration


def samples(case: Case, device):
    """``(op, args)`` for every op, in the order of the method."""
    x = case.inputs().to(device)
    scale = case.head_dim**-0.5
    masks = (x.visual, None if x.valid.all() else x.valid)
    window = x.queries[0].shape[2]
    budget = torch.full((len(x.visual),), 5, device=device)

    yield OPS.instruction_attention, (x.queries, x.keys, *masks, scale)
    attention = OPS.instruction_attention(x.queries, x.keys, *masks, scale)
    yield OPS.elite_window, (attention, *masks, 0.9)
    elite = OPS.elite_window(attention, *masks, 0.9)
    slots = [40] * case.layers
    lse = torch.stack([query.float().norm(dim=3) for query in x.queries])
    for per_kv_head, softmax, asked, amount in (
        (False, (), window, (0.3, None, None)),
        (True, (True, 1.0), None, (None, budget, slots)),
    ):
        scores_of = (x.queries, x.keys, elite, *masks, scale, per_kv_head, *softmax)
        yield OPS.window_scores, scores_of
        scores = OPS.window_scores(*scores_of)
        yield OPS.window_scores, (*scores_of[:7], True, 0.0, lse)
        yield OPS.window_scores_and_counts, (*scores_of[:7], 0.01)
        yield OPS.moments, (scores, *masks)
        statistics = OPS.moments(scores, *masks)
        budgets_of = (*statistics, *masks, asked, *amount, "strength+skewness")
        yield OPS.layer_budgets, budgets_of
        budgets = OPS.layer_budgets(*budgets_of)
        for capacity in (None, slots, list(range(9, 9 + case.layers))):
            yield OPS.select, (scores, budgets, *masks, capacity)
            indices, counts = OPS.select(scores, budgets, *masks, capacity)
            yield OPS.gather_kv, (x.keys, x.values, indices, counts)
        yield OPS.compact_kv_, (x.keys, x.values, indices, counts)
    lengths = torch.arange(9, 9 + len(x.visual), dtype=torch.int32, device=device)
    per_head = lengths[:, None].repeat(1, case.kv_heads)
    for query, key, value, n in zip(x.queries, x.keys, x.values, (lengths, per_head), strict=False):
        yield OPS.decode_attention, (query[:, :, -1], key, value, n, scale)


def registered_ops() -> set[str]:
    names = torch._C._dispatch_get_all_op_names()
    return {name.split("::")[1] for name in names if name.startswith("aircache::")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_opcheck(case, backend):
    seen = set()
    for op, args in samples(case, backend.device):
        library.opcheck(op, args)
        seen.add(op.default.name().split("::")[1])
    assert seen == registered_ops()


def test_every_op_has_its_function():
    assert all(callable(getattr(ops, name)) for name in registered_ops())
