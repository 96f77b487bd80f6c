"""Compression inside a compiled function, as one graph.

Given a `capacity`, the shape of the result is known in advance: nothing waits for the device, and
the graph has static shapes throughout. Row b's survivors stand in its first `counts[b]` slots.
"""

import torch

import aircache_ext


@torch.compile(fullgraph=True)
def compress_and_scale(keys, values, q_windows, visual):
    compressed = aircache_ext.compress_layers(
        keys, values, q_windows, visual=visual, retention=0.1, capacity=192
    )
    return [(layer.keys, layer.values * 2, layer.counts) for layer in compressed]


torch.manual_seed(0)
keys = [torch.randn(1, 4, 1200, 64) for _ in range(2)]
values = [torch.randn(1, 4, 1200, 64) for _ in range(2)]
q_windows = [torch.randn(1, 8, 32, 64) for _ in range(2)]
visual = torch.zeros(1, 1200, dtype=torch.bool)
visual[:, 16:-32] = True

compiled = compress_and_scale(keys, values, q_windows, visual)
eager = aircache_ext.compress_layers(
    keys, values, q_windows, visual=visual, retention=0.1, capacity=192
)
for number, ((key, doubled, counts), layer) in enumerate(zip(compiled, eager, strict=True)):
    print(f"layer {number}: {list(key.shape)}, {int(counts[0])} slots in use")
    assert torch.equal(key, layer.keys)
    assert torch.equal(doubled, layer.values * 2)
    assert torch.equal(counts, layer.counts)
