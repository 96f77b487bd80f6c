"""Bad input: an error that names the argument, what it got and what it needs; no harm done."""

import re

import pytest
import torch

import aircache_ext
from aircache_ext import ops
from cases import BASE
from promises import same

BATCH, KV_HEADS, SEQ, DIM, VALUE_DIM, WINDOW = 2, 2, 79, 64, 48, 16


def arguments() -> dict:
    """Good ones, of one layer."""
    x = BASE.inputs()
    return {"k": x.keys[0], "v": x.values[0], "q_window": x.queries[0], **x.masks}


def zeros(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def refused(function, args: dict, error, *parts: str) -> None:
    """The error comes, its message has all the parts in this order, the tensors are as before."""
    tensors = [t for t in args.values() if isinstance(t, torch.Tensor) and t.device.type == "cpu"]
    before = [t.detach().clone() for t in tensors]
    with pytest.raises(error) as caught:
        function(**args)
    pattern = ".*".join(re.escape(part) for part in parts)
    assert re.search(pattern, str(caught.value), re.DOTALL), f"{caught.value} !~ {pattern}"
    for tensor, unchanged in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), unchanged)


# what is passed, the error, then the argument, what it got and what it needs, as in the message
BAD = {
    "k is no tensor": ({"k": [1.0]}, TypeError, "k", "list", "tensor"),
    "k has three dimensions": (
        {"k": zeros(2, 79, 64)}, ValueError, "k", "[2, 79, 64]", "batch, kv_heads, seq, head_dim"),
    "k is float64": (
        {"k": zeros(2, 2, 79, 64, dtype=torch.float64)}, TypeError, "k", "float64", "float32"),
    "k is an integer tensor": (
        {"k": zeros(2, 2, 79, 64, dtype=torch.int32)}, TypeError, "k", "int32", "float32"),
    "k's last dimension is strided": (
        {"k": zeros(2, 2, 79, 128)[..., ::2]}, ValueError, "k", "stride 2", "contiguous"),
    "k has no heads": (
        {"k": zeros(2, 0, 79, 64)}, ValueError, "shape", "[2, 2, 79, 48]", "kv_heads=0"),
    "v has another length": (
        {"v": zeros(2, 2, 78, 48)}, ValueError, "v", "[2, 2, 78, 48]", "seq=79"),
    "v has other heads": (
        {"v": zeros(2, 3, 79, 48)}, ValueError, "v", "[2, 3, 79, 48]", "kv_heads=2"),
    "v has another dtype": (
        {"v": zeros(2, 2, 79, 48, dtype=torch.float16)}, TypeError, "v", "float16", "float32"),
    "v's last dimension is strided": (
        {"v": zeros(2, 2, 48, 79).mT}, ValueError, "v", "stride 79", "contiguous"),
    "v is elsewhere": (
        {"v": torch.zeros(2, 2, 79, 48, device="meta")}, ValueError, "v", "meta", "cpu"),
    "q_window has another head dim": (
        {"q_window": zeros(2, 4, 16, 32)}, ValueError, "q_window", "[2, 4, 16, 32]", "head_dim=64"),
    "q_window has another batch": (
        {"q_window": zeros(1, 4, 16, 64)}, ValueError, "q_window", "[1, 4, 16, 64]", "batch=2"),
    "q_window's heads do not divide": (
        {"q_window": zeros(2, 5, 16, 64)}, ValueError, "q_window", "5", "multiple", "2"),
    "q_window has no heads": (
        {"q_window": zeros(2, 0, 16, 64)}, ValueError, "q_window", "0", "multiple", "2"),
    "q_window is longer than the cache": (
        {"q_window": zeros(2, 4, 80, 64)}, ValueError, "q_window", "80", "79"),
    "q_window is empty": ({"q_window": zeros(2, 4, 0, 64)}, ValueError, "q_window", "0", "1"),
    "q_window has another dtype": (
        {"q_window": zeros(2, 4, 16, 64, dtype=torch.bfloat16)},
        TypeError, "q_window", "bfloat16", "float32"),
    "q_window's last dimension is strided": (
        {"q_window": zeros(2, 4, 64, 16).mT}, ValueError, "q_window", "stride 16", "contiguous"),
    "visual is missing": ({"visual": None}, TypeError, "visual", "NoneType", "tensor"),
    "visual has another length": (
        {"visual": zeros(2, 78, dtype=torch.bool)}, ValueError, "visual", "[2, 78]", "seq=79"),
    "visual has one dimension": (
        {"visual": zeros(79, dtype=torch.bool)}, ValueError, "visual", "[79]", "batch=2, seq=79"),
    "visual is an integer tensor": (
        {"visual": zeros(2, 79, dtype=torch.int64)}, TypeError, "visual", "int64", "bool"),
    "visual is elsewhere": (
        {"visual": torch.zeros(2, 79, dtype=torch.bool, device="meta")},
        ValueError, "visual", "meta", "cpu"),
    "valid has another batch": (
        {"valid": zeros(1, 79, dtype=torch.bool)}, ValueError, "valid", "[1, 79]", "batch=2"),
    "valid is a float tensor": ({"valid": zeros(2, 79)}, TypeError, "valid", "float32", "bool"),
    "valid is a list": ({"valid": [True]}, TypeError, "valid", "list", "tensor"),
    "retention is zero": ({"retention": 0.0}, ValueError, "retention", "0", "(0, 1]"),
    "retention is negative": ({"retention": -0.5}, ValueError, "retention", "-0.5", "1"),
    "retention is above one": ({"retention": 1.5}, ValueError, "retention", "1.5", "1"),
    "retention is NaN": ({"retention": float("nan")}, ValueError, "retention", "nan", "1"),
    "retention is a string": ({"retention": "0.1"}, TypeError, "retention", "str", "number"),
    "both amounts": (
        {"retention": 0.5, "budget": 3}, ValueError, "retention", "0.5", "budget", "3", "only one"),
    "budget is zero": ({"budget": 0}, ValueError, "budget", "0", "at least 1"),
    "budget is a float": ({"budget": 3.0}, TypeError, "budget", "float", "int"),
    "budget is a bool": ({"budget": True}, TypeError, "budget", "bool", "int"),
    "budget is a float tensor": ({"budget": zeros(2)}, TypeError, "budget", "float32", "integer"),
    "budget is a bool tensor": (
        {"budget": zeros(2, dtype=torch.bool)}, TypeError, "budget", "bool", "integer"),
    "budget has another batch": (
        {"budget": zeros(3, dtype=torch.int64)}, ValueError, "budget", "[3]", "batch=2"),
    "budget is elsewhere": (
        {"budget": torch.zeros(2, dtype=torch.int64, device="meta")},
        ValueError, "budget", "meta", "cpu"),
    "alpha is negative": ({"alpha": -0.1}, ValueError, "alpha", "-0.1", "0", "1"),
    "alpha is above one": ({"alpha": 1.01}, ValueError, "alpha", "1.01", "0", "1"),
    "alpha is NaN": ({"alpha": float("nan")}, ValueError, "alpha", "nan", "0", "1"),
    "alpha is None": ({"alpha": None}, TypeError, "alpha", "NoneType", "number"),
    "heads is unknown": (
        {"heads": "mean"}, ValueError, "heads", "'mean'", "'shared'", "'per_kv_head'"),
    "heads is a list": (
        {"heads": ["shared"]}, (TypeError, ValueError), "heads", "shared", "'shared'"),
    "scale is a string": ({"scale": "1"}, TypeError, "scale", "str", "number"),
    "scale is NaN": ({"scale": float("nan")}, ValueError, "scale", "nan", "finite"),
    "scale is infinite": ({"scale": float("-inf")}, ValueError, "scale", "-inf", "finite"),
}  # fmt: skip

ONLY_OUT_OF_PLACE = {
    "capacity is zero": ({"capacity": 0}, ValueError, "capacity", "0", "at least 1"),
    "capacity is a float": ({"capacity": 9.0}, TypeError, "capacity", "float", "int"),
    "capacity is a string": ({"capacity": "9"}, TypeError, "capacity", "str", "int"),
    "capacity has too many": ({"capacity": [9, 9]}, ValueError, "capacity", "2", "1", "per layer"),
}


def one_tensor_of(layer: dict) -> dict:
    """``compress_layers``' arguments from ``compress``'s."""
    names = {"k": "keys", "v": "values", "q_window": "q_windows"}
    return {names.get(n, n): [t] if n in names else t for n, t in layer.items()}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("function", [aircache_ext.compress, aircache_ext.compress_])
def test_one_layer(function, bad):
    changed, error, *parts = BAD[bad]
    refused(function, {**arguments(), **changed}, error, *parts)


@pytest.mark.parametrize("bad", {**BAD, **ONLY_OUT_OF_PLACE})
def test_layers(bad):
    changed, error, *parts = {**BAD, **ONLY_OUT_OF_PLACE}[bad]
    names = {"k": "keys[0]", "v": "values[0]", "q_window": "q_windows"}
    parts = [names.get(parts[0], parts[0]), *parts[1:]]
    refused(
        lambda **args: aircache_ext.compress_layers(**one_tensor_of(args)),
        {**arguments(), **changed},
        error,
        *parts,
    )


@pytest.mark.parametrize("bad", ONLY_OUT_OF_PLACE)
def test_capacity(bad):
    changed, error, *parts = ONLY_OUT_OF_PLACE[bad]
    refused(aircache_ext.compress, {**arguments(), **changed}, error, *parts)


def layers() -> dict:
    x = BASE.inputs()
    return {"keys": x.keys, "values": x.values, "q_windows": x.queries, **x.masks}


@pytest.mark.parametrize(
    ("changed", "error", "parts"),
    [
        ({"keys": []}, ValueError, ["keys", "empty", "one tensor per layer"]),
        ({"values": [zeros(2, 2, 79, 48)]}, ValueError, ["values", "1 tensors", "2"]),
        ({"q_windows": [zeros(2, 4, 16, 64)] * 3}, ValueError, ["q_windows", "3 tensors", "2"]),
        (
            {"keys": [zeros(2, 2, 79, 64), zeros(2, 2, 78, 64)]},
            ValueError,
            ["keys[1]", "[2, 2, 78, 64]", "seq=79"],
        ),
        (
            {"keys": [zeros(2, 2, 79, 64), zeros(2, 2, 79, 64, dtype=torch.float16)]},
            TypeError,
            ["keys[1]", "float16", "float32", "keys[0]"],
        ),
        ({"capacity": [9, 9, 9]}, ValueError, ["capacity", "3", "2", "per layer"]),
        ({"capacity": [9, -1]}, ValueError, ["capacity", "-1", "at least 1"]),
        (
            {"budget_mode": "mean"},
            ValueError,
            ["budget_mode", "'mean'", "'strength+skewness'", "'uniform'", "'pyramid'"],
        ),
    ],
)
def test_layers_among_themselves(changed, error, parts):
    refused(aircache_ext.compress_layers, {**layers(), **changed}, error, *parts)


@pytest.mark.parametrize("name", ["k", "v"])
def test_in_place_refuses_tensors_that_require_grad(name):
    args = arguments()
    args[name].requires_grad_()
    refused(aircache_ext.compress_, args, ValueError, name, "requires grad", "in place")


@pytest.mark.parametrize("name", ["k", "v"])
@pytest.mark.parametrize(
    "overlapping",
    [
        lambda t: t[:1].expand(2, -1, -1, -1),
        lambda t: t[:, :1].expand(-1, 2, -1, -1),
        lambda t: t[:, :, :1].expand(-1, -1, 79, -1),
        lambda t: t.as_strided(t.shape, (2 * 79 * 32, 79 * 32, 32, 1)),
    ],
)
def test_in_place_refuses_memory_that_overlaps(name, overlapping):
    args = arguments()
    args[name] = overlapping(args[name])
    refused(aircache_ext.compress_, args, ValueError, name, "overlap", "clone")


def test_in_place_refuses_one_tensor_for_both():
    args = arguments()
    args["v"] = args["k"]
    refused(aircache_ext.compress_, args, ValueError, "v", "k", "memory of its own")


@pytest.mark.parametrize(
    "views",
    [
        lambda t: (t, t.view_as(t)),
        lambda t: (t[:, :, :40], t[:, :, 39:]),
        lambda t: (t[:, :, 39:], t[:, :, :40]),
        lambda t: (t[..., :33], t[..., 32:]),
    ],
)
def test_in_place_refuses_keys_and_values_that_share_memory(views):
    key, value = views(arguments()["k"])
    indices, counts = [torch.arange(3).expand(BATCH, 1, 3).contiguous()], torch.full((1, BATCH), 3)
    args = {"keys": [key], "values": [value], "indices": indices, "counts": counts.int()}
    refused(ops.compact_kv_, args, ValueError, "value[0]", "shares memory", "key[0]", "of its own")


def test_sharing_is_found_exactly():
    """Against sets of elements: random views of one buffer, of the same strides."""
    random = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    elements, buffer = torch.arange(500), torch.zeros(500)
    shared = 0
    for _ in range(500):
        sizes = [draw(1, 3) for _ in range(4)]
        strides, span = [0, 0, 0, 1], sizes[3] + draw(0, 2)
        for axis in torch.randperm(3, generator=random).tolist():
            strides[axis], span = span, span * sizes[axis] + draw(0, 3)
        views = [(sizes, strides, draw(0, 60)) for _ in range(2)]
        first, second = (set(elements.as_strided(*view).flatten().tolist()) for view in views)
        key, value = (buffer.as_strided(*view) for view in views)
        kept = [torch.arange(sizes[2]).expand(sizes[0], 1, -1).contiguous()]
        counts = torch.full((1, sizes[0]), sizes[2], dtype=torch.int32)
        if first & second:
            shared += 1
            with pytest.raises(ValueError, match="shares memory"):
                ops.compact_kv_([key], [value], kept, counts)
        else:
            ops.compact_kv_([key], [value], kept, counts)
    assert 50 < shared < 450


def test_in_place_accepts_memory_that_does_not_overlap():
    """Strides of dimensions of size one, and rows that lie between other rows."""
    args = arguments()
    both = zeros(BATCH, SEQ, 2 * KV_HEADS, DIM).transpose(1, 2)
    args["k"], args["v"] = both[:, ::2], both[:, 1::2]
    aircache_ext.compress_(**args)
    args["k"] = zeros(1, KV_HEADS, SEQ, DIM).expand(1, -1, -1, -1)
    one = {n: t[:1] for n, t in args.items()}
    aircache_ext.compress_(**one)


@pytest.mark.parametrize("function", [aircache_ext.compress, aircache_ext.compress_])
@pytest.mark.parametrize("name", ["retention", "budget", "capacity", "budget_mode"])
def test_unknown_keywords(function, name):
    """compress_ has no capacity, and one layer no budget mode."""
    if name == "budget_mode" or (name == "capacity" and function is aircache_ext.compress_):
        refused(function, {**arguments(), name: 1}, TypeError, name)
    else:
        function(**arguments(), **{name: 1})


# The ops, called by themselves: the checks of the compiled code.
STEPS = BASE.inputs()
QK = (STEPS.queries, STEPS.keys)
INSIDE = {"window": 16}
FULL = {"softmax": "full"}
ATTENTION = zeros(2, 2, 16)
ELITE = zeros(2, 2, 16, dtype=torch.bool)
SCORES = zeros(2, 2, 1, 79)
STATISTIC = zeros(2, 2, dtype=torch.float64)
BUDGETS = torch.ones(2, 2, dtype=torch.int32)
INDICES = [torch.arange(5).expand(2, 1, 5).contiguous()] * 2
COUNTS = torch.full((2, 2), 5, dtype=torch.int32)


@pytest.mark.parametrize(
    ("op", "args", "options", "parts"),
    [
        ("instruction_attention", (STEPS.queries[:1], STEPS.keys), {}, ["query", "1", "2"]),
        ("instruction_attention", ([zeros(2, 3, 16, 64)] * 2, STEPS.keys), {}, ["3", "2"]),
        ("instruction_attention", ([zeros(2, 4, 99, 64)] * 2, STEPS.keys), {}, ["99", "79"]),
        ("elite_window", (ATTENTION.double(),), {}, ["attention", "Double", "Float"]),
        ("elite_window", (ATTENTION[0],), {}, ["attention", "[2, 16]", "layers, batch, window"]),
        ("elite_window", (ATTENTION,), {"alpha": 2}, ["alpha", "2", "1"]),
        ("window_scores", (*QK, ELITE[:1]), {}, ["elite", "[1, 2, 16]", "layers=2"]),
        ("window_scores", (*QK, ATTENTION), {}, ["elite", "Float", "Bool"]),
        ("window_scores", (*QK, ELITE), {"softmax": "causal"},
         ["softmax", "'causal'", "'restricted'", "'full'"]),
        ("window_scores", (*QK, ELITE), {"softmax_n": 1.0}, ["softmax_n", "1.0", "0", "'full'"]),
        ("window_scores", (*QK, ELITE), {"softmax": "full", "softmax_n": -1},
         ["softmax_n", "-1", "at least 0"]),
        ("window_scores", (*QK, ELITE), {"softmax": "full", "softmax_n": float("nan")},
         ["softmax_n", "nan", "at least 0"]),
        ("window_scores", (*QK, ELITE), {"softmax": "full", "softmax_n": 1e39},
         ["softmax_n", "inf", "finite"]),
        ("window_scores", (*QK, ELITE), {"softmax": "full", "softmax_n": "1"},
         ["softmax_n", "str", "number"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 4, 16)},
         ["lse", "'full'", "0", "'restricted'"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 4, 16), "softmax_n": 2, **FULL},
         ["lse", "'full'", "0", "2"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 2, 16), **FULL},
         ["lse", "[2, 2, 2, 16]", "query_heads=4"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 4, 79), **FULL},
         ["lse", "[2, 2, 4, 79]", "window=16"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 4, 16).half(), **FULL},
         ["lse", "Half", "Float"]),
        ("window_scores", (*QK, ELITE), {"lse": zeros(2, 2, 16, 4).mT, **FULL},
         ["lse", "contiguous"]),
        ("window_scores", (*QK, ELITE), {"lse": [0.0], **FULL}, ["lse", "list", "tensor"]),
        ("window_scores_and_counts", (*QK, ELITE[:1]), {"threshold": 0.01},
         ["rows", "[1, 2, 16]", "layers=2"]),
        ("window_scores_and_counts", (*QK, ELITE), {"threshold": 0}, ["threshold", "0", "(0, 1]"]),
        ("window_scores_and_counts", (*QK, ELITE), {"threshold": 1.5},
         ["threshold", "1.5", "(0, 1]"]),
        ("window_scores_and_counts", (*QK, ELITE), {"threshold": 1e-60},
         ["threshold", "0", "(0, 1]"]),
        ("window_scores_and_counts", (*QK, ELITE), {"threshold": None},
         ["threshold", "NoneType", "number"]),
        ("moments", (SCORES[..., :70].contiguous(),), {}, ["visual", "[2, 79]", "seq=70"]),
        ("moments", (SCORES.half(),), {}, ["scores", "Half", "Float"]),
        ("layer_budgets", (STATISTIC, STATISTIC[:1]), INSIDE, ["skewness", "[1, 2]", "layers=2"]),
        ("layer_budgets", (STATISTIC.float(), STATISTIC), INSIDE, ["strength", "Float", "Double"]),
        ("layer_budgets", (STATISTIC, STATISTIC), {"window": 80}, ["window", "80", "79"]),
        ("layer_budgets", (STATISTIC, STATISTIC), {"window": 0}, ["window", "0", "1", "79"]),
        ("select", (SCORES, BUDGETS.long()), {}, ["budgets", "Long", "Int"]),
        ("select", (SCORES, BUDGETS[:1]), {}, ["budgets", "[1, 2]", "layers=2"]),
        ("select", (SCORES, BUDGETS), {"capacity": [5]}, ["capacity", "1", "2"]),
        ("select", (SCORES.expand(2, 2, 3, 79), BUDGETS), {}, ["scores", "contiguous"]),
    ],
)  # fmt: skip
def test_steps(op, args, options, parts):
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(ops, op)(*args, **STEPS.masks, **options)
    assert re.search(".*".join(re.escape(p) for p in parts), str(caught.value)), caught.value


@pytest.mark.parametrize("name", ["gather_kv", "compact_kv_"])
@pytest.mark.parametrize(
    ("indices", "counts", "parts"),
    [
        ([INDICES[0] + 75, INDICES[0]], COUNTS, ["indices", "79", "79"]),
        ([INDICES[0], INDICES[0] - 1], COUNTS, ["indices", "-1", "79"]),
        ([INDICES[0] + 2**40, INDICES[0]], COUNTS, ["indices", str(2**40), "79"]),
        (INDICES[:1], COUNTS, ["indices", "1", "2"]),
        ([INDICES[0].int()] * 2, COUNTS, ["indices", "Int", "Long"]),
        ([INDICES[0].expand(2, 3, 5).contiguous()] * 2, COUNTS, ["3", "2"]),
        (INDICES, COUNTS.long(), ["counts", "Long", "Int"]),
        (INDICES, COUNTS[:1], ["counts", "[1, 2]", "layers=2"]),
    ],
)
def test_kept_positions(name, indices, counts, parts):
    x = BASE.inputs()
    before = [[t.clone() for t in tensors] for tensors in x.cache]
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(ops, name)(x.keys, x.values, indices, counts)
    assert re.search(".*".join(re.escape(p) for p in parts), str(caught.value)), caught.value
    assert same(x.cache, before)


@pytest.mark.parametrize("positions", [[0, 2, 2, 3, 4], [4, 3, 2, 1, 0]])
def test_compact_refuses_positions_that_do_not_ascend(positions):
    x = BASE.inputs()
    before = [[t.clone() for t in tensors] for tensors in x.cache]
    indices = [torch.tensor(positions).expand(2, 1, 5).contiguous()] * 2
    with pytest.raises(ValueError, match=r"indices.*ascending and distinct"):
        ops.compact_kv_(x.keys, x.values, indices, COUNTS)
    assert same(x.cache, before)
    ops.gather_kv(x.keys, x.values, indices, COUNTS)  # out of place any order will do


def test_counts_are_clamped_to_the_slots():
    """Counts come from a user too: nothing beyond the slots is read."""
    x = BASE.inputs()
    for count in (-5, 6, 2**31 - 1):
        keys, _ = ops.gather_kv(x.keys, x.values, INDICES, torch.full_like(COUNTS, count))
        n = max(0, min(count, 5))
        assert torch.equal(keys[0][:, :, :n], x.keys[0][:, :, :n])
        assert not keys[0][:, :, n:].any()
