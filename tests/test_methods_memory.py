"""Where every token judges: the attention of all of them is never there at once.

Measured as in bench/peak_memory.py, by torch's allocator, in a process of its own: modules of
``bench/`` have the names of some of ours.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
SCRIPT = """
import json, sys, torch, peak_memory
from aircache_ext import compress_layers
from aircache_ext.methods import H2O, PrefixKV

layers, seq, methods = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
torch.set_num_threads(2)
shape = (1, 4, seq, 128)  # a model's KV heads; more query heads would take longer, not more memory
keys, values, queries = ([torch.randn(shape).bfloat16() for _ in range(layers)] for _ in range(3))
visual = torch.zeros(1, seq, dtype=torch.bool)
visual[:, 20 : seq - 100] = True
cache = sum(tensor.nbytes for tensor in keys + values)
for method in map(eval, methods):
    def call(_):
        return compress_layers(keys, values, queries, visual=visual, method=method)
    call(None)
    print(json.dumps([n / cache for n in peak_memory.allocator_extra(call, None)]))
"""
METHODS = ["H2O()", "PrefixKV(evict_text=True)"]


# At 2k tokens the weights of one layer in fp32 would be twice the cache of eight.
@pytest.mark.parametrize(
    ("layers", "seq"), [(8, 2048), pytest.param(28, 8192, marks=pytest.mark.full)]
)
def test_extra_memory_is_a_small_part_of_the_cache(layers, seq):
    path = os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(layers), str(seq), *METHODS],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    measured = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    assert len(measured) == len(METHODS)
    for method, (extra, scratch) in zip(METHODS, measured, strict=True):
        assert extra < 0.05, method  # beyond the outputs
        assert scratch < 0.05, method  # beside them
