"""Compression methods as sentences over :mod:`aircache_ext.ops`, one file each.

>>> from aircache_ext.methods import SnapKV
>>> aircache_ext.compress(k, v, q_window, visual=visual, retention=0.1, method=SnapKV())

A method is a frozen dataclass of its parameters. All of them keep the share ``retention`` of the
tokens they may evict: the visual ones, and with ``evict_text=True``, where a method has it, any.
"""

from aircache_ext.methods.aircache import AirCache
from aircache_ext.methods.amount import Amount
from aircache_ext.methods.csp import CSP
from aircache_ext.methods.h2o import H2O
from aircache_ext.methods.method import Method, Prompt, Seen, Tokens
from aircache_ext.methods.prefix_kv import PrefixKV
from aircache_ext.methods.pyramidkv import PyramidKV
from aircache_ext.methods.random import Random
from aircache_ext.methods.snapkv import SnapKV
from aircache_ext.methods.streaming_llm import StreamingLLM
from aircache_ext.methods.tova import TOVA
from aircache_ext.methods.uniform import Uniform
from aircache_ext.methods.vl_cache import VLCache

__all__ = [
    "CSP",
    "TOVA",
    "AirCache",
    "Amount",
    "H2O",
    "Method",
    "PrefixKV",
    "Prompt",
    "PyramidKV",
    "Random",
    "Seen",
    "SnapKV",
    "StreamingLLM",
    "Tokens",
    "Uniform",
    "VLCache",
]
