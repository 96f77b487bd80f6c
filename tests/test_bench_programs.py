"""The benchmarks in Python at toy size, and what is given to the presses of kvpress.

In processes of their own: modules of ``bench/`` have the names of some of ours.
"""

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

# What `make gpu` runs, but on the CPU. The comparison with kvpress is skipped where there is none.
ON_GPU = """
import os, sys
from dataclasses import replace
from pathlib import Path

import on_gpu

on_gpu.LOGS = results = Path(sys.argv[1])
_, *steps = on_gpu.benchmarks(results, 0, device="cpu", dtype="fp32", cases=["toy"])
here = {"PYTHONPATH": os.environ["PYTHONPATH"]}
outcomes = [on_gpu.run(replace(step, environment=here)) for step in steps]
on_gpu.print_benchmarks(results, outcomes)
print("words:", [outcome.word for outcome in outcomes])
on_gpu.print_benchmarks(results, [replace(outcome, passed=False) for outcome in outcomes])
"""


@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs transformers")
def test_a_press_finds_the_queries_that_we_are_given():
    run("-c", QUERIES)


# Compiling takes most of a minute; without it the variant is plain torch once more.
@pytest.mark.parametrize("compiling", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_comparisons_of_make_gpu(compiling, tmp_path):
    printed = run("-c", ON_GPU, tmp_path, TORCHDYNAMO_DISABLE=str(int(not compiling)))
    kvpress = "ok" if importlib.util.find_spec("kvpress") else "skipped"
    before, words, after = printed.partition(f"words: {['ok', kvpress]}")
    assert words, printed
    (result,) = json.loads((tmp_path / "compare_torch_cuda.json").read_text())["results"]
    assert not result["left_out"]
    for name in ("aircache_ext", "plain torch", "torch.compile"):
        row = result["variants"][name]
        assert row["median_s"] > 0 and row["agreement"]["unexplained"] == 0, name
        assert row["extra_memory"]["cache_bytes"] > 0, name
        assert f"| toy | {name} | " in before, printed
    assert not after.strip()  # what an earlier run wrote is not a failed one's


@pytest.mark.skipif(not importlib.util.find_spec("kvpress"), reason="needs requirements/kvpress")
def test_toy_run(tmp_path):
    run(BENCH / "compare_kvpress.py", "--toy", "--json", tmp_path / "toy.json")
    report = json.loads((tmp_path / "toy.json").read_text())
    assert report["kvpress"]
    (result,) = report["results"]
    for name, row in result["variants"].items():
        assert row["median_s"] > 0 and row["samples"] == 3, name
        assert row["extra_memory"]["cache_bytes"] > 0, name
        if not name.startswith("aircache_ext"):
            assert row["slower_than_aircache"] > 0, name
    for name in ("plain torch", "torch.compile"):
        assert result["variants"][name]["in_common_with_ours"] > 0.99, name
