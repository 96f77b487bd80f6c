"""A compression method of your own, in ten lines.

Keys with a small norm tend to draw much attention (Devoto et al., arXiv 2406.11430), so this one
keeps the visual tokens whose keys are shortest, and looks at no query at all.
"""

from dataclasses import dataclass

import torch

import aircache_ext
from aircache_ext.methods import Method, Prompt, Seen


@dataclass(frozen=True, kw_only=True)
class ShortKeys(Method):
    """Visual tokens with the shortest keys; each KV head for itself."""

    def observe(self, prompt: Prompt) -> Seen:
        lengths = torch.stack([key.float().norm(dim=-1) for key in prompt.keys])
        return Seen((-lengths,))  # [layers, batch, kv_heads, seq]: the highest stay


torch.manual_seed(0)
keys = [torch.randn(2, 4, 300, 64) for _ in range(3)]
values = [torch.randn(2, 4, 300, 64) for _ in range(3)]
q_windows = [torch.randn(2, 8, 1, 64) for _ in range(3)]
visual = torch.zeros(2, 300, dtype=torch.bool)
visual[:, 10:-20] = True

kept = aircache_ext.compress_layers(
    keys, values, q_windows, visual=visual, retention=0.1, method=ShortKeys()
)

dropped = keys[0][0, 1, visual[0]].norm(dim=-1).sort().values[27:]
stayed = kept[0].keys[0, 1, 10:-20].norm(dim=-1)
print(f"27 of 270 visual keys stay, none longer than {stayed.max():.2f}; the others have", end=" ")
print(f"{dropped.min():.2f} and more")
assert len(stayed) == 27 and stayed.max() <= dropped.min()
