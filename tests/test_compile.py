"""torch.compile(fullgraph=True): no graph break, no wrong shape, bit for bit what eager gives."""

from dataclasses import replace

import pytest
import torch

import aircache_ext
from aircache_ext import ops
from cases import BASE, BF16, Case
from promises import same

pytestmark = pytest.mark.registration

# aot_eager traces, functionalises and runs the ops as they are: all that can go wrong with a custom
# op, in a tenth of the time that code generation takes. Inductor itself runs once per function.
AOT, INDUCTOR = "aot_eager", "inductor"


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def compress_layers(options):
    def function(x):
        return aircache_ext.compress_layers(*x[:3], visual=x[3], valid=x[4], **options)

    return function


def compress(options):
    def function(x):
        layer = (tensors[0] for tensors in x[:3])
        return [aircache_ext.compress(*layer, visual=x[3], valid=x[4], **options)]

    return function


def compress_(options):
    def function(x):
        k, v = x[0][0].clone(), x[1][0].clone()
        kept = aircache_ext.compress_(k, v, x[2][0], visual=x[3], valid=x[4], **options)
        return [(*kept, k, v)]

    return function


def full_scores(options):
    def function(x):
        judges = x[4][:, -x[2][0].shape[2] :].expand(len(x[0]), -1, -1).contiguous()
        masks = {"visual": x[3], "valid": x[4]}
        return [(ops.window_scores(x[2], x[0], judges, softmax="full", **masks, **options),)]

    return function


def scores_of_lse(options):
    def function(x):
        lse = torch.stack([query.float().norm(dim=3) for query in x[2]])
        return full_scores({"lse": lse, **options})(x)

    return function


def counts(options):
    def function(x):
        judges = x[4][:, -x[2][0].shape[2] :].expand(len(x[0]), -1, -1).contiguous()
        masks = {"visual": x[3], "valid": x[4]}
        return [ops.window_scores_and_counts(x[2], x[0], judges, **masks, **options)]

    return function


def tensors(case: Case, device):
    x = case.inputs().to(device)
    return (*x.cache, x.visual, x.valid)


def check(function, backend_name: str, dynamic: bool | None, device) -> None:
    """Three sizes through one compiled function, the last one new in everything."""
    compiled = torch.compile(function, fullgraph=True, backend=backend_name, dynamic=dynamic)
    for case in (
        BASE,
        replace(BASE, prompt="left padding", seed=1),
        replace(BASE, prompt="one, two and three visual tokens", window=7, seed=2),
    ):
        x = tensors(case, device)
        eager, traced = function(x), compiled(x)
        for ours, expected in zip(traced, eager, strict=True):
            for name, (a, b) in enumerate(zip(ours, expected, strict=True)):
                assert a.shape == b.shape, (case.id, name)
                assert a.dtype == b.dtype
        # compress_ leaves what lies beyond the counts unspecified; here both ran the same kernel.
        assert same(traced, eager), case.id


RETENTION = {"retention": 0.3}
CAPACITY = {"retention": 0.3, "capacity": 50}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("function", "options"),
    [
        (compress_layers, RETENTION),  # sizes that depend on the data
        (compress_layers, {"budget": 6, "heads": "per_kv_head", "budget_mode": "pyramid"}),
        (compress_layers, CAPACITY),
        (compress_layers, {"retention": 0.3, "capacity": (50, 30)}),
        (compress, {}),
        (compress, CAPACITY),
        (compress_, {}),
        (compress_, {"budget": 6, "heads": "per_kv_head"}),
        (full_scores, {"heads": "per_kv_head"}),
        (full_scores, {"softmax_n": 1.0}),
        (scores_of_lse, {}),
        (counts, {"threshold": 0.01}),
    ],
)
def test_traced(function, options, dynamic, backend):
    check(function(options), AOT, dynamic, backend.device)


@pytest.mark.parametrize(
    ("function", "options", "dynamic"),
    [
        (compress_layers, RETENTION, True),
        (compress_layers, CAPACITY, False),
        (compress, RETENTION, False),
        (compress_, {}, True),
    ],
)
def test_inductor(function, options, dynamic, backend):
    check(function(options), INDUCTOR, dynamic, backend.device)


@pytest.mark.full
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("function", [compress_layers, compress, compress_])
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_inductor_everywhere(function, dynamic, heads, mode, backend):
    compiled = torch.compile(function({"heads": heads}), fullgraph=True, dynamic=dynamic, mode=mode)
    x = tensors(replace(BASE, dtype=BF16, layout="bshd"), backend.device)
    assert same(compiled(x), function({"heads": heads})(x))


def test_around_other_code(backend):
    """The results feed ordinary torch code in the same graph, whose shapes depend on them."""
    x = tensors(BASE, backend.device)

    def attend(x):
        ours = compress_layers(RETENTION)(x)
        return [
            (torch.softmax(q[:, :2, -1:] @ k.transpose(2, 3), -1) @ v,)
            for (k, v, _, _), q in zip(ours, x[2], strict=True)
        ]

    compiled = torch.compile(attend, fullgraph=True, backend=AOT, dynamic=True)
    assert same(compiled(x), attend(x))


def test_the_cache_itself_is_changed(backend):
    """In-place ops reach the caller's tensors through a compiled function."""
    x = Case(layers=1).inputs().to(backend.device)
    (k,), (v,), (q,) = x.cache
    expected = aircache_ext.compress(k, v, q, **x.masks)

    @torch.compile(fullgraph=True, backend=AOT)
    def run(k, v):
        return aircache_ext.compress_(k, v, q, **x.masks)

    _, counts = run(k, v)
    for row, n in enumerate(counts.tolist()):
        assert torch.equal(k[row, :, :n], expected.keys[row, :, :n])
        assert torch.equal(v[row, :, :n], expected.values[row, :, :n])
