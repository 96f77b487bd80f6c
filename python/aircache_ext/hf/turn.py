"""What was said since the last eviction."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from aircache_ext.methods import Tokens


class Turn:
    """The tokens that the next eviction is about.

    Args:
        start: the position of its first token.
        visual: ``[batch, length]`` bool.
        valid: ``[batch, length]`` bool, False where a token is padding.
    """

    def __init__(self, start: int, visual: Tensor, valid: Tensor) -> None:
        self.start = start
        self._set(visual, valid)

    def _set(self, visual: Tensor, valid: Tensor) -> None:
        self.visual, self.valid = visual & valid, valid
        position = torch.arange(self.length, device=visual.device)
        last = pad(torch.where(self.visual, position, -1), (1, 0), value=-1).amax(1)  # [batch]
        after = self.length - 1 - last  # [batch], tokens that follow the last visual one
        text = (valid & (position > last[:, None])).sum(1)  # those of them that are not padding
        rows = torch.stack([after, text], 1)[last >= 0].tolist()
        self.instruction = max((after for after, _ in rows), default=0)
        """Tokens after the last visual one, in the row that has most of them."""
        self.texts = [text for _, text in rows]
        """Per row with a visual token: the text after the last one."""

    @property
    def length(self) -> int:
        return self.visual.shape[1]

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def has_text(self) -> bool:
        """Whether text follows the visual tokens, in every row that has some."""
        return bool(self.texts) and all(self.texts)

    def on(self, device: torch.device) -> Tokens:
        return Tokens(self.visual, self.valid).on(device)

    def append(self, visual: Tensor, valid: Tensor) -> None:
        """Both ``[batch, new]`` bool."""
        self._set(torch.cat([self.visual, visual], 1), torch.cat([self.valid, valid], 1))

    def crop(self, length: int) -> None:
        self._set(self.visual[:, :length], self.valid[:, :length])

    def select_rows(self, rows: Tensor) -> None:
        rows = rows.to(self.visual.device)
        self._set(self.visual[rows], self.valid[rows])
