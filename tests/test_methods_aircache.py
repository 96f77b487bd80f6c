"""AirCache with the instruction's last tokens as judges instead of the elite ones."""

import numpy as np
import pytest
import torch

import aircache_ext
import paper_loops
from aircache_ext.methods import AirCache, Prompt, Tokens
from cases import PROMPTS, Case
from methods_cases import inputs, loop_rows

SIZE = 4


@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_scores(prompt, heads, backend):
    case = Case(layers=2, kv_heads=2, group=2, head_dim=16, value_dim=8, prompt=prompt, window=20)
    x = inputs(case)
    there = x.to(backend.device)
    seen = AirCache(window_size=SIZE, heads=heads).observe(
        Prompt(there.queries, there.keys, Tokens(there.visual, there.valid))
    )
    (scores,) = seen.scores
    for b, row in enumerate(loop_rows(x)):
        told = paper_loops.instruction_positions(row.visual, row.valid, row.queries.shape[2])
        judges = [position - row.first_query for position in told[-SIZE:]]
        for layer in range(case.layers):
            expected = paper_loops.window_scores(
                row.queries[layer], row.keys[layer], judges, row.visual, row.valid, scale=16**-0.5
            )  # [Hq, S]
            expected = expected.reshape(2, 2, -1).mean(1)
            if heads == "shared":
                expected = expected.mean(0, keepdims=True)
            found = scores[layer, b].cpu().numpy()
            visual = np.array(row.visual) & np.array(row.valid)
            np.testing.assert_allclose(found[:, visual], expected[:, visual], atol=2e-6, rtol=1e-5)


def test_a_window_of_all_the_instruction_is_alpha_0():
    x = inputs(Case(layers=3, kv_heads=2, group=2, head_dim=16, value_dim=8, window=10**6))
    windows, whole = (
        aircache_ext.compress_layers(*x.cache, **x.masks, method=method, retention=0.3)
        for method in (AirCache(window_size=10**6), AirCache(alpha=0.0))
    )
    for one, other in zip(windows, whole, strict=True):
        assert torch.equal(one.indices, other.indices) and torch.equal(one.counts, other.counts)
