"""Our methods keep what the presses of kvpress' published package kept, token for token.

All tokens may be evicted here, as there. Budgets are given as numbers of tokens: kvpress truncates
its share of them, we round the total. Its PyramidKV has other budgets than the paper's code, which
we follow (``kvpress_fixture/formulas.py`` and our docstring say how they differ), so the layers'
sizes are taken from the recording and the choice is compared.
"""

import pytest
import torch

import aircache_ext
from aircache_ext.methods import TOVA, PyramidKV, SnapKV, StreamingLLM
from kvpress_fixture import Recording, formulas, recordings


def our_method(recorded: Recording):
    params = recorded.params
    if recorded.press == "StreamingLLM":
        return StreamingLLM(sinks=params["n_sink"])
    if recorded.press == "TOVA":
        return TOVA()
    windows = {"window_size": params["window_size"], "kernel_size": params["kernel_size"]}
    if recorded.press == "SnapKV":
        return SnapKV(**windows)
    return PyramidKV(**windows, beta=params["beta"])


@pytest.mark.parametrize("recorded", recordings(), ids=str)
def test_kept_sets(recorded, backend):
    visual = torch.ones(1, recorded.keys[0].shape[2], dtype=torch.bool, device=backend.device)
    for queries, keys, kept in zip(recorded.queries, recorded.keys, recorded.kept, strict=True):
        ours = aircache_ext.compress(
            keys.to(backend.device),
            keys.to(backend.device),
            queries.to(backend.device),
            visual=visual,
            budget=kept.shape[1],
            scale=recorded.scale,
            method=our_method(recorded),
        )
        assert torch.equal(ours.indices[0].cpu().expand_as(kept), kept)


def test_pyramids_differ_in_whether_the_window_is_part_of_them():
    """2,000 tokens, a tenth stays, in 5 layers with a window of 32: of 200 a layer we take the
    window off first and divide 168, the last layer's part being 168 // 20; kvpress divides 200, is
    left with 10 for the last layer, less than its window, and gives up the pyramid."""
    seq, layers, window, beta = 2000, 5, 32, 20
    keys = [torch.zeros(1, 1, seq, 8)] * layers
    ours = aircache_ext.compress_layers(
        keys,
        keys,
        [torch.zeros(1, 1, window, 8)] * layers,
        visual=torch.ones(1, seq, dtype=torch.bool),
        budget=200,
        method=PyramidKV(window_size=window, beta=beta),
    )
    counts = [int(layer.counts) for layer in ours]
    assert counts == [32 + 328 - 80 * layer for layer in range(layers)]  # 328 down to 8
    assert sum(counts) == layers * 200
    theirs = formulas.pyramid_counts(seq, 0.9, layers, window=window, beta=beta)
    assert theirs == [200] * layers
