"""The benchmark against kvpress, and what it gives to the presses."""

from __future__ import annotations

import importlib.util
import json

import pytest

from in_bench import BENCH, run

QUERIES = """
import torch
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from cases import DTYPES, read_cases
from press_inputs import make_press_inputs, positions

case = read_cases()["toy"]
for dtype, off in {"fp32": 1e-6, "bf16": 0.02}.items():  # of the largest number
    x = make_press_inputs(case, DTYPES[dtype], torch.device("cpu"))
    cos, sin = (t[:, -case.window :] for t in x.position_embeddings)
    layers = zip(x.modules, x.hidden_states, x.q_windows, x.values, strict=True)
    for module, hidden, wanted, values in layers:
        projected = module.q_proj(hidden[:, 1:]).unflatten(2, (case.query_heads, -1))
        found, _ = apply_rotary_pos_emb(*2 * [projected.transpose(1, 2)], cos, sin)
        assert (found - wanted).abs().max() <= off * wanted.abs().max()
        assert positions(values).equal(torch.arange(case.seq).expand(values.shape[:3]))
"""


@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs transformers")
def test_a_press_finds_the_queries_that_we_are_given():
    run("-c", QUERIES)


@pytest.mark.skipif(not importlib.util.find_spec("kvpress"), reason="needs requirements/kvpress")
def test_toy_run(tmp_path):
    run(BENCH / "compare_kvpress.py", "--toy", "--json", tmp_path / "toy.json")
    report = json.loads((tmp_path / "toy.json").read_text())
    assert report["kvpress"]
    (result,) = report["results"]
    for name, row in result["variants"].items():
        assert row["median_s"] > 0 and row["samples"] == 3, name
        assert row["extra_memory"]["cache_bytes"] > 0, name
        if name.startswith("kvpress"):
            assert row["slower_than_aircache"] > 0, name
