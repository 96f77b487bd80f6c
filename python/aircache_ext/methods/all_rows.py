"""Methods whose judges are all tokens of the prompt."""

from abc import abstractmethod

from torch import Tensor

from aircache_ext import ops
from aircache_ext.methods.method import Method, Prompt, Seen, Tokens


class AllRows(Method):
    """Every token judges all those up to itself, with the model's own softmax.

    The window must hold the queries of all positions. Their attention is summed up tile by tile;
    the ``S x S`` weights never exist. Where a prompt is read in parts, the sums of the parts take
    the place of their queries: :meth:`received` for each, :meth:`conclude` at the end.
    """

    heads: ops.Heads

    def observe(self, prompt: Prompt) -> Seen:
        prompt.need(prompt.tokens.visual.shape[1], self)
        return self.conclude(self.received(prompt), prompt.tokens)

    def received(self, prompt: Prompt, before: Tensor | None = None) -> Tensor:
        """``[L, B, H, S]`` fp32: the attention that each token got from the tokens of the window,
        summed, and what it got ``before`` that, ``[L, B, H, S']`` with ``S' <= S``."""
        readable = prompt.tokens.readable
        judges = readable[:, readable.shape[1] - prompt.window :].sum(1)  # [B]
        received = prompt.scores(readable, readable, self.heads) * judges[:, None, None]
        if before is not None:
            received[..., : before.shape[-1]] += before
        return received

    def conclude(self, received: Tensor, tokens: Tokens) -> Seen:
        """``received`` ``[L, B, H, S]``, once all tokens have judged."""
        judges = tokens.readable.sum(1).clamp(min=1)  # [B]
        return self.weigh(received / judges[:, None, None])

    @abstractmethod
    def weigh(self, received: Tensor) -> Seen:
        """``received`` ``[L, B, H, S]`` fp32: the attention each token got, over the number of
        judges."""
