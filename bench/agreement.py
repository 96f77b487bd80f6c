"""Do two implementations keep the same tokens? Asked before they are timed.

Where they differ, an fp64 run of the definition says whether the token was a borderline case: its
score within 1e-4, relatively, of the scores at the two implementations' cuts.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from aircache_ext import reference
from inputs import Inputs

BORDER = 1e-4


@dataclass(frozen=True)
class Agreement:
    kept: int  # tokens kept by the first, over all layers and rows
    differing: int  # kept by one of them only
    unexplained: int  # of those, not borderline
    mean_elite: float  # elite tokens per layer and row

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def compare(inputs: Inputs, ours: list[list[Tensor]], theirs: list[list[Tensor]]) -> Agreement:
    """``ours`` and ``theirs``: kept positions by layer and row."""
    attention = reference.instruction_attention(inputs.q_windows, inputs.keys, visual=inputs.visual)
    elite = reference.elite_window(attention, visual=inputs.visual)
    scores = None
    kept = differing = unexplained = 0
    for layer, (our_rows, their_rows) in enumerate(zip(ours, theirs, strict=True)):
        for row, (our, their) in enumerate(zip(our_rows, their_rows, strict=True)):
            kept += len(our)
            odd = torch.tensor(sorted(set(our.tolist()) ^ set(their.tolist())), dtype=torch.long)
            if not len(odd):
                continue
            if scores is None:  # [L, B, 1, S]; slow, and seldom needed
                scores = reference.window_scores(
                    inputs.q_windows, inputs.keys, elite, visual=inputs.visual
                )
            visual = inputs.visual[row]
            ranked = scores[layer, row, 0][visual].sort(descending=True).values
            counts = [int(visual[positions].sum()) for positions in (our, their)]
            low, high = ranked[max(counts) - 1], ranked[min(counts) - 1]
            score = scores[layer, row, 0][odd]
            borderline = (score >= low * (1 - BORDER)) & (score <= high * (1 + BORDER))
            differing += len(odd)
            unexplained += int((~(borderline & visual[odd])).sum())
    return Agreement(kept, differing, unexplained, elite.sum(-1).double().mean().item())
