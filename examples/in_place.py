"""Compression in place: survivors move to the front of the memory that the cache already has.

For caches of fixed size (static caches, CUDA graphs): nothing is allocated for the result and
nothing waits for the device.
"""

import torch

import aircache_ext

torch.manual_seed(0)
keys = torch.randn(1, 4, 1200, 128)
values = torch.randn(1, 4, 1200, 128)
q_window = torch.randn(1, 28, 32, 128)
visual = torch.zeros(1, 1200, dtype=torch.bool)
visual[:, 16:-32] = True

expected = aircache_ext.compress(keys, values, q_window, visual=visual)
memory = keys.data_ptr()
indices, counts = aircache_ext.compress_(keys, values, q_window, visual=visual)

n = int(counts[0])
first = indices[0, 0, :20].tolist()
print(f"{n} survivors in slots 0..{n - 1} of the same memory; the first: {first}")
assert keys.data_ptr() == memory
assert torch.equal(keys[:, :, :n], expected.keys)
assert torch.equal(values[:, :, :n], expected.values)
assert (indices[0, 0, n:] == -1).all()  # slots past the count hold nothing in particular
