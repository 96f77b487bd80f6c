"""KV-cache compression for vision-language models: AirCache (arXiv 2503.23956) as torch ops.

>>> import aircache_ext
>>> kept = aircache_ext.compress(k, v, q_window, visual=visual, retention=0.1)

``compress`` works on one layer, ``compress_layers`` on a whole model with the paper's layer
budgets, ``compress_`` in place. ``aircache_ext.methods`` has other methods than AirCache,
``aircache_ext.ops`` the steps of all, ``aircache_ext.reference`` their definition in plain torch.
"""

from aircache_ext import _loader

_C = _loader.load()  # registers torch.ops.aircache.*

from aircache_ext import _fakes as _fakes  # noqa: E402
from aircache_ext import methods, ops, reference  # noqa: E402
from aircache_ext._compress import (  # noqa: E402
    CompressedKV,
    compress,
    compress_,
    compress_layers,
)

build_info = _C.build_info
__version__: str = build_info()["version"]

__all__ = [
    "CompressedKV",
    "__version__",
    "build_info",
    "compress",
    "compress_",
    "compress_layers",
    "methods",
    "ops",
    "reference",
]
