"""AirCache with the model's own softmax: strength is then how much of its attention is visual."""

from dataclasses import dataclass
from typing import ClassVar

from aircache_ext import ops
from aircache_ext.methods import AirCache


@dataclass(frozen=True, kw_only=True)
class FullSoftmax(AirCache):
    """The elite tokens' attention is over all that they see, text that is not elite included."""

    softmax: ClassVar[ops.Softmax] = "full"
