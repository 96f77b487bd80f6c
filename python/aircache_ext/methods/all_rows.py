"""Methods whose judges are all tokens of the prompt."""

from abc import abstractmethod

from torch import Tensor

from aircache_ext import ops
from aircache_ext.methods.method import Method, Prompt, Seen


class AllRows(Method):
    """Every token judges all those up to itself, with the model's own softmax.

    The window must hold the queries of all positions. Their attention is summed up tile by tile;
    the ``S x S`` weights never exist.
    """

    heads: ops.Heads

    def observe(self, prompt: Prompt) -> Seen:
        prompt.need(prompt.tokens.visual.shape[1], self)
        readable = prompt.tokens.readable
        return self.weigh(prompt.scores(readable, readable, self.heads))

    @abstractmethod
    def weigh(self, received: Tensor) -> Seen:
        """``received`` ``[L, B, H, S]`` fp32: the attention each token got, over the number of
        judges. A mean, so where a prompt is read in parts they can be put together."""
