"""aircache_ext.methods: what stays is what the papers' formulas, as plain loops, say."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from aircache_ext.methods import (
    CSP,
    H2O,
    TOVA,
    PrefixKV,
    PyramidKV,
    Random,
    SnapKV,
    StreamingLLM,
    Uniform,
    VLCache,
)
from cases import BF16, PROMPTS, Case
from methods_cases import (
    WHOLE,
    check_against_loops,
    compress_layers,
    inputs,
    loop_rows,
    with_amount,
)

VARIANTS = {
    SnapKV: [
        SnapKV(),
        SnapKV(window_size=8, evict_text=True),
        SnapKV(window_size=1, kernel_size=1, heads="shared"),
        SnapKV(window_size=16, kernel_size=7, pooling="max", evict_text=True),
        SnapKV(window_size=5, kernel_size=3, pooling="max", heads="shared"),
        SnapKV(window_size=16, kernel_size=13, heads="shared", evict_text=True),
    ],
    PyramidKV: [
        PyramidKV(window_size=8),
        PyramidKV(window_size=4, beta=2, evict_text=True),
        PyramidKV(window_size=16, beta=5, heads="shared", evict_text=True),
        PyramidKV(window_size=2, beta=1, pooling="max", kernel_size=1),
    ],
    TOVA: [
        TOVA(),
        TOVA(evict_text=True),
        TOVA(heads="per_kv_head", evict_text=True),
    ],
    StreamingLLM: [
        StreamingLLM(),
        StreamingLLM(evict_text=True),
        StreamingLLM(sinks=0, evict_text=True),
        StreamingLLM(sinks=11),
    ],
    H2O: [
        H2O(),
        H2O(evict_text=True),
        H2O(recent=0.0, heads="shared", evict_text=True),
        H2O(recent=0.9, heads="shared"),
        H2O(recent=1.0, evict_text=True),
    ],
    PrefixKV: [
        PrefixKV(),
        PrefixKV(evict_text=True),
        PrefixKV(start_size=6, heads="per_kv_head", evict_text=True),
        PrefixKV(start_size=3, heads="per_kv_head"),
    ],
    VLCache: [
        VLCache(),
        VLCache(evict_text=True),
        VLCache(threshold=0.2, recent=0.5, heads="shared", evict_text=True),
        VLCache(threshold=0.9, recent=0.0, heads="shared"),
    ],
    CSP: [
        CSP(),
        CSP(evict_text=True),
        CSP(recent=0.2, cross=0.6, heads="shared", evict_text=True),
        CSP(recent=0.8, cross=0.0, softmax_n=0.0, evict_text=True),
        CSP(recent=0.3, cross=1.0, softmax_n=5.0),
        CSP(recent=0.0, cross=0.5, evict_text=True),
    ],
    Random: [
        Random(),
        Random(seed=-7),
    ],
    Uniform: [
        Uniform(),
    ],
}

TENSOR_BUDGET = (3, 40, 0, 9, 17)
AMOUNTS = [
    {"retention": 0.3},
    {"retention": 0.05},
    {"budget": 7},
    {"retention": 0.5, "capacity": 35},
    {},
    {"budget": TENSOR_BUDGET},
    {"retention": 1.0},
    {"retention": 0.5, "capacity": [35, 24, 60]},
    {"retention": 0.62},
    {"budget": 20, "capacity": 3},  # less than the text
    {"retention": 0.3, "capacity": 200},  # more than there is
]


def amount_of(case: Case, number: int) -> dict:
    amount = dict(AMOUNTS[number % len(AMOUNTS)])
    if isinstance(amount.get("budget"), tuple):
        amount["budget"] = torch.tensor(TENSOR_BUDGET[: len(PROMPTS[case.prompt])])
    if isinstance(amount.get("capacity"), list):
        amount["capacity"] = amount["capacity"][: case.layers]
    return amount


MODELS = [
    Case(layers=3, kv_heads=2, group=2, head_dim=16, value_dim=8),
    Case(layers=2, kv_heads=3, group=1, head_dim=20, value_dim=8, dtype=BF16),
    Case(layers=3, kv_heads=1, group=7, head_dim=16, value_dim=8, layout="bshd"),
    Case(layers=1, kv_heads=2, group=3, head_dim=64, value_dim=8, dtype=BF16, layout="sliced"),
]


def window(method, number: int) -> int:
    """Those of all rows need the whole prompt; others must not care how much more there is."""
    if isinstance(method, (H2O, PrefixKV)):
        return WHOLE
    return (WHOLE, max(method.window_size or 1, 16))[number % 2]


@cache
def case_inputs(case: Case):
    x = inputs(case)
    return x, loop_rows(x)


def compare(method, case: Case, number: int, backend) -> list[bool]:
    x, rows = case_inputs(case)
    amount = amount_of(case, number)
    ours = compress_layers(x, method, amount, backend.device)
    return check_against_loops(x, method, with_amount(rows, amount), ours)


def assert_few(borderline: list[bool]) -> None:
    n, of = sum(borderline), len(borderline)
    assert n <= max(0.02 * of, 2), f"{n} of {of} sets are borderline"


# Every prompt, each with another model, window and amount. The executor takes every fourth.
@pytest.mark.parametrize("kind", VARIANTS, ids=lambda kind: kind.__name__)
def test_kept_sets(kind, backend):
    borderline = []
    for number, method in enumerate(VARIANTS[kind]):
        for turn, prompt in enumerate(PROMPTS):
            if backend.name == "simt" and (turn + number) % 4:
                continue
            case = replace(MODELS[(turn + number) % 4], prompt=prompt, seed=turn)
            case = replace(case, window=window(method, turn // 2))
            borderline += compare(method, case, turn + 2 * number, backend)
    assert_few(borderline)


@pytest.mark.full
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", VARIANTS, ids=lambda kind: kind.__name__)
def test_kept_sets_of_the_full_grid(kind, prompt, backend):
    borderline = []
    for method in VARIANTS[kind]:
        for model, case in enumerate(MODELS):
            for amount in range(model % 2, len(AMOUNTS), 2):
                case = replace(case, prompt=prompt, seed=100)
                case = replace(case, window=window(method, amount // 2))
                borderline += compare(method, case, amount, backend)
    assert_few(borderline)
