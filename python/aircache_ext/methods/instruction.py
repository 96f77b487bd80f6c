"""The tokens after the image."""

from torch import Tensor

from aircache_ext.methods.method import Tokens


def instruction(tokens: Tokens) -> Tensor:
    """Text with no visual token at or after it, ``[B, S]`` bool."""
    visual = tokens.visual & tokens.readable
    visual_from_here_on = visual.flip(1).cumsum(1).flip(1)
    return tokens.readable & (visual_from_here_on == 0)
