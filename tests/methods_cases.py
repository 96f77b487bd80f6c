"""What the tests of aircache_ext.methods compress, and how a result is held against the loops."""

from dataclasses import asdict, replace

import torch

import aircache_ext
import methods_loops
from aircache_ext.methods import (
    CSP,
    H2O,
    TOVA,
    AirCache,
    Method,
    PrefixKV,
    PyramidKV,
    Random,
    SnapKV,
    StreamingLLM,
    Uniform,
    VLCache,
)
from cases import PROMPTS, Case, Inputs, store, tokens
from methods_rows import Choice, Row
from promises import check_compressed

LOOPS = {
    SnapKV: methods_loops.snapkv,
    PyramidKV: methods_loops.pyramidkv,
    TOVA: methods_loops.tova,
    StreamingLLM: methods_loops.streaming_llm,
    H2O: methods_loops.h2o,
    PrefixKV: methods_loops.prefix_kv,
    VLCache: methods_loops.vl_cache,
    CSP: methods_loops.csp,
    Random: methods_loops.random,
    Uniform: methods_loops.uniform,
}

# Of these the total follows from the amount alone; the others' layers round for themselves.
EXACT_TOTAL = tuple(set(LOOPS) - {PyramidKV, VLCache})

WHOLE = 10**6  # a window that holds the prompt

# One of each kind and a few more, for what must hold of all of them.
METHODS = [
    AirCache(),
    AirCache(window_size=8, heads="per_kv_head"),
    SnapKV(window_size=8),
    SnapKV(window_size=8, pooling="max", evict_text=True),
    PyramidKV(window_size=4, beta=4, evict_text=True),
    TOVA(evict_text=True),
    StreamingLLM(evict_text=True),
    H2O(),
    H2O(heads="shared", evict_text=True),
    PrefixKV(evict_text=True),
    PrefixKV(heads="per_kv_head"),
    VLCache(),
    VLCache(heads="shared", evict_text=True),
    CSP(cross=0.4),
    CSP(evict_text=True),
    Random(seed=3),
    Uniform(),
]
MODEL = Case(layers=2, head_dim=16, value_dim=8, window=WHOLE)


def inputs(case: Case) -> Inputs:
    """Every head of every layer looks elsewhere, and at few tokens: attention over a wide range."""
    visual, valid = tokens(*PROMPTS[case.prompt])
    batch, seq = visual.shape
    generator = torch.Generator().manual_seed(case.seed)

    def normal(heads: int, rows: int, dim: int, size: float = 1.0) -> list[torch.Tensor]:
        shape = (batch, heads, rows, dim)
        drawn = (size * torch.randn(shape, generator=generator) for _ in range(case.layers))
        return [store(tensor.to(case.dtype), case.layout) for tensor in drawn]

    keys = normal(case.kv_heads, seq, case.head_dim)
    values = normal(case.kv_heads, seq, case.value_dim)
    queries = normal(case.kv_heads * case.group, min(case.window, seq), case.head_dim, size=2)
    return Inputs(keys, values, queries, visual, valid)


def loop_rows(x: Inputs) -> list[Row]:
    """What the loops take, one for each row of the batch."""

    def numbers(tensors, row):
        return torch.stack([tensor[row].double() for tensor in tensors]).numpy()

    return [
        Row(numbers(x.queries, i), numbers(x.keys, i), x.visual[i].tolist(), x.valid[i].tolist())
        for i in range(len(x.visual))
    ]


def with_amount(rows: list[Row], amount: dict) -> list[Row]:
    budget, capacity = amount.get("budget"), amount.get("capacity")
    budgets = budget.tolist() if isinstance(budget, torch.Tensor) else [budget] * len(rows)
    slots = [capacity] * rows[0].layers if isinstance(capacity, int) else capacity
    return [
        replace(row, retention=amount.get("retention"), budget=of_row, capacity=slots)
        for row, of_row in zip(rows, budgets, strict=True)
    ]


def by_loops(method: Method, row: Row) -> list[list[Choice]]:
    return LOOPS[type(method)](row, **asdict(method))


def compress_layers(x: Inputs, method: Method, amount: dict, device=None) -> list:
    device = device or torch.device("cpu")
    there = x.to(device)
    moved = {k: v.to(device) if torch.is_tensor(v) else v for k, v in amount.items()}
    ours = aircache_ext.compress_layers(*there.cache, **there.masks, method=method, **moved)
    return [type(layer)(*(t.cpu() for t in layer)) for layer in ours]


def evictable_as_visual(x: Inputs, method: Method) -> Inputs:
    """What a method may evict is what the promises call visual."""
    return replace(x, visual=torch.ones_like(x.visual)) if method.evict_text else x


def check_against_loops(x: Inputs, method: Method, rows: list[Row], ours) -> list[bool]:
    """Kept sets, counts and totals. Returns which sets hang on rounding; those are left out."""
    for layer, compressed in enumerate(ours):
        check_compressed(evictable_as_visual(x, method), layer, compressed)
    borderline = []
    for i, row in enumerate(rows):
        right = by_loops(method, row)
        counts = [int(layer.counts[i]) for layer in ours]
        if type(method) in EXACT_TOTAL:  # also where a layer's share hangs on rounding
            assert sum(counts) == sum(len(heads[0].kept) for heads in right), (method, row)
        for layer, (compressed, heads) in enumerate(zip(ours, right, strict=True)):
            slots = compressed.indices.shape[2]
            assert compressed.indices.shape[1] == len(heads)
            for head, choice in enumerate(heads):
                borderline.append(not choice.clear)
                if choice.clear:
                    where = f"{method}, row {i}, layer {layer}, head {head}"
                    assert counts[layer] == len(choice.kept), where
                    kept = compressed.indices[i, head, : min(counts[layer], slots)]
                    assert kept.tolist() == choice.kept[:slots], where
    return borderline
