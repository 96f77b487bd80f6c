"""torch.compile(fullgraph=True) of every method: no graph break, bit for bit what eager gives."""

from dataclasses import replace

import pytest
import torch

from aircache_ext.methods import CSP, PrefixKV, PyramidKV, VLCache
from methods_cases import METHODS, MODEL, inputs
from promises import same
from test_compile import AOT, INDUCTOR, compress, compress_, compress_layers

pytestmark = pytest.mark.registration


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def tensors(case, device):
    x = inputs(case).to(device)
    return (*x.cache, x.visual, x.valid)


CASES = (
    MODEL,
    replace(MODEL, prompt="left padding", seed=1),
    replace(MODEL, prompt="one, two and three visual tokens", seed=2),
)
CAPACITY = {"retention": 0.3, "capacity": 50}
WAYS = [
    (compress_layers, {"retention": 0.3}),
    (compress_layers, CAPACITY),
    (compress, {"budget": 6}),
    (compress_, {}),
]


def check(function, cases, compiler: str, dynamic: bool, device) -> None:
    """Several sizes through one compiled function, as in test_compile."""
    compiled = torch.compile(function, fullgraph=True, backend=compiler, dynamic=dynamic)
    for case in cases:
        x = tensors(case, device)
        eager, traced = function(x), compiled(x)
        for ours, expected in zip(traced, eager, strict=True):
            assert [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in expected]
        assert same(traced, eager), case.id


KINDS = (PrefixKV, VLCache, CSP, PyramidKV)


# Compiling takes many seconds: those that do most beside the ops, one way for each.
@pytest.mark.parametrize(("kind", "way"), [*zip(KINDS, WAYS, strict=True)])
def test_traced(kind, way, backend):
    method = next(method for method in METHODS if type(method) is kind)
    function, amount = way
    check(function({"method": method, **amount}), CASES[1:], AOT, True, backend.device)


@pytest.mark.full
@pytest.mark.parametrize("compiler", [AOT, INDUCTOR])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("function", "amount"), WAYS)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_traced_all_ways(method, function, amount, dynamic, compiler, backend):
    cases = CASES if compiler is AOT else CASES[:1]
    check(function({"method": method, **amount}), cases, compiler, dynamic, backend.device)
