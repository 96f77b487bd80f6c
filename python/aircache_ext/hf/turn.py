"""What was said since the last eviction, and whether it can be judged now."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Turn:
    """The tokens that the next eviction is about, up to where the prompt ends."""

    start: int
    """Position of its first token."""
    visual: Tensor
    """``[batch, length]`` bool: valid visual tokens."""
    valid: Tensor
    """``[batch, length]`` bool: not padding."""

    @property
    def length(self) -> int:
        return self.visual.shape[1]

    @property
    def end(self) -> int:
        return self.start + self.length

    def append(self, visual: Tensor, valid: Tensor) -> None:
        """Both ``[batch, new]`` bool."""
        self.visual = torch.cat([self.visual, visual & valid], 1)
        self.valid = torch.cat([self.valid, valid], 1)

    def crop(self, length: int) -> None:
        self.visual, self.valid = self.visual[:, :length], self.valid[:, :length]

    def select_rows(self, rows: Tensor) -> None:
        rows = rows.to(self.visual.device)
        self.visual, self.valid = self.visual[rows], self.valid[rows]

    def instruction_lengths(self) -> list[tuple[int, int]]:
        """Per row what follows the last visual token: how many tokens, and how many of them are
        valid; (0, -1) without a visual token."""
        position = torch.arange(self.length, device=self.visual.device)
        last = torch.where(self.visual, position, -1).amax(1)  # [batch]
        after = self.length - 1 - last
        text = (self.valid & (position > last[:, None])).sum(1)
        rows = torch.stack([after, text], 1).masked_fill((last < 0)[:, None], -1).tolist()
        return [(max(tokens, 0), valid) for tokens, valid in rows]
