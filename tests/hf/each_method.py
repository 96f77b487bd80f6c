"""Every compression method, with parameters that fit prompts of a few dozen tokens."""

from dataclasses import fields, replace

import pytest

from aircache_ext import methods
from aircache_ext.methods import Method

METHODS: list[Method] = [
    methods.AirCache(),
    methods.VLCache(recent=0.3),
    methods.CSP(),
    methods.PrefixKV(start_size=2),
    methods.SnapKV(window_size=11, kernel_size=3),
    methods.SnapKV(window_size=5, kernel_size=3, pooling="max", heads="shared"),
    methods.PyramidKV(window_size=4, kernel_size=3, beta=2),
    methods.H2O(),
    methods.TOVA(),
    methods.StreamingLLM(sinks=2),
    methods.Random(seed=1),
    methods.Uniform(),
]
EVICTING_TEXT = [
    replace(method, evict_text=True)
    for method in METHODS
    if "evict_text" in {field.name for field in fields(method)}
]

EACH_METHOD = pytest.mark.parametrize("method", METHODS, ids=str)
EACH_METHOD_BOTH_WAYS = pytest.mark.parametrize("method", METHODS + EVICTING_TEXT, ids=str)
