"""The method one step at a time: what `compress_layers` does, with a look at every result.

Each step is an op of its own, for all layers at once. Other methods are other sentences in the same
words: leave out `elite_window` and score with the last 16 rows, or replace the budgets.
"""

import torch

import aircache_ext
from aircache_ext import ops

LAYERS, SEQ, WINDOW = 4, 1200, 32


def show(name, numbers):
    print(f"{name:>46}:", *(f"{number:.4g}" for number in numbers))


torch.manual_seed(0)
keys = [torch.randn(1, 4, SEQ, 64) for _ in range(LAYERS)]
values = [torch.randn(1, 4, SEQ, 64) for _ in range(LAYERS)]
q_windows = [torch.randn(1, 8, WINDOW, 64) * (1 + layer) for layer in range(LAYERS)]
visual = torch.zeros(1, SEQ, dtype=torch.bool)
visual[:, 16:-WINDOW] = True

attention = ops.instruction_attention(q_windows, keys, visual=visual)
show("attention of the last token to the instruction", attention.shape)

elite = ops.elite_window(attention, visual=visual, alpha=0.9)
show("elite tokens per layer", elite.sum(-1).flatten())

scores = ops.window_scores(q_windows, keys, elite, visual=visual)
show("scores of the visual tokens", scores.shape)

strength, skewness = ops.moments(scores, visual=visual)
show("strength per layer", strength.flatten())
show("skewness per layer", skewness.flatten())

budgets = ops.layer_budgets(strength, skewness, visual=visual, window=WINDOW, retention=0.1)
show("visual tokens that stay per layer", budgets.flatten())

indices, counts = ops.select(scores, budgets, visual=visual)
show("slots per layer, text included", counts.flatten())

kept_keys, kept_values = ops.gather_kv(keys, values, indices, counts)
show("keys of the first layer", kept_keys[0].shape)

for layer, whole in enumerate(aircache_ext.compress_layers(keys, values, q_windows, visual=visual)):
    assert torch.equal(kept_keys[layer], whole.keys)
    assert torch.equal(kept_values[layer], whole.values)
