"""What no method takes: by message, before anything is computed."""

import dataclasses
import re

import pytest

import aircache_ext
from aircache_ext.methods import (
    H2O,
    TOVA,
    AirCache,
    PyramidKV,
    SnapKV,
    VLCache,
)
from methods_cases import LOOPS, MODEL, inputs

ENTRIES = [aircache_ext.compress, aircache_ext.compress_, aircache_ext.compress_layers]


def call(entry, **options):
    x = inputs(MODEL)
    cache = x.cache if entry is aircache_ext.compress_layers else (t[0] for t in x.cache)
    return entry(*cache, **x.masks, **options)


def refused(error, message: list, function, *args, **options) -> None:
    """With all parts of the message in this order."""
    with pytest.raises(error, match=".*".join(re.escape(str(part)) for part in message)):
        function(*args, **options)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("method", [SnapKV, "SnapKV", 0, AirCache.observe])
def test_a_method_is_an_instance(entry, method):
    kind = type(method).__name__
    refused(TypeError, ["method is", kind, "instance", "SnapKV()"], call, entry, method=method)


@pytest.mark.parametrize("method", [SnapKV(), AirCache()], ids=str)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_method_has_parameters_of_its_own(entry, method):
    given = {"alpha": 0.5, "heads": "per_kv_head"}
    if entry is aircache_ext.compress_layers:
        given["budget_mode"] = "pyramid"
    for name, value in given.items():
        message = [name, repr(value), "method", type(method).__name__, "only one"]
        refused(ValueError, message, call, entry, method=method, **{name: value})


COUNT = [(0, ValueError, "at least 1"), (2.0, TypeError, "int"), (True, TypeError, "int")]
SHARE = [
    (-0.1, ValueError, "in [0, 1]"),
    (1.1, ValueError, "in [0, 1]"),
    (float("nan"), ValueError, "in [0, 1]"),
    ("all", TypeError, "number"),
]
BAD = {
    "alpha": SHARE,
    "budget_mode": [("all", ValueError, "'strength+skewness'"), (1, ValueError, "'pyramid'")],
    "window_size": COUNT,
    "kernel_size": [*COUNT, (4, ValueError, "odd")],
    "beta": COUNT,
    "start_size": COUNT,
    "sinks": [(-1, ValueError, "at least 0"), (0.0, TypeError, "int"), (False, TypeError, "int")],
    "pooling": [("mean", ValueError, "'avg', 'max'"), (None, ValueError, "'avg', 'max'")],
    "heads": [("all", ValueError, "'shared', 'per_kv_head'"), (2, ValueError, "'shared'")],
    "recent": SHARE,
    "cross": SHARE,
    "threshold": [
        (0, ValueError, "in (0, 1]"),
        (1.01, ValueError, "in (0, 1]"),
        (float("nan"), ValueError, "in (0, 1]"),
        ("p", TypeError, "number"),
    ],
    "softmax_n": [
        (-1, ValueError, "at least 0"),
        (float("inf"), ValueError, "finite"),
        (float("nan"), ValueError, "at least 0"),
        ("1", TypeError, "number"),
    ],
    "seed": [(0.5, TypeError, "int"), (None, TypeError, "int"), (2**63, ValueError, "64 bits")],
    "evict_text": [("no", TypeError, "bool"), (1, TypeError, "bool")],
}


@pytest.mark.parametrize("kind", [AirCache, *LOOPS], ids=lambda kind: kind.__name__)
def test_bad_parameters(kind):
    for field in dataclasses.fields(kind):
        for value, error, needed in BAD[field.name]:
            came = value if error is ValueError else type(value).__name__
            refused(error, [field.name, came, needed], kind, **{field.name: value})


@pytest.mark.parametrize("kind", LOOPS, ids=lambda kind: kind.__name__)
def test_parameters_are_named_and_stay(kind):
    method = kind()
    assert method == kind()
    assert hash(method) == hash(kind())
    with pytest.raises(TypeError, match="positional"):
        kind(1)
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, getattr(method, field.name))


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("method", [TOVA(), H2O(), VLCache(), PyramidKV(window_size=1)], ids=str)
def test_amounts_are_checked_with_any_method(entry, method):
    for amount, message in (
        ({"retention": 0.0}, ["retention", 0.0, "(0, 1]"]),
        ({"retention": 0.5, "budget": 3}, ["retention", 0.5, "budget", 3, "only one"]),
        ({"budget": 0}, ["budget", 0, "at least 1"]),
    ):
        refused(ValueError, message, call, entry, method=method, **amount)
