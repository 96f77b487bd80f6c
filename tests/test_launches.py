"""How many kernels a call launches: one a stage for all layers, 128 layers a launch at most."""

import ctypes

import pytest

import aircache_ext
from cases import Case
from conftest import SIMT, SIMT_LIBRARY

STAGES = [
    "instruction_attention",
    "elite_window",
    "window_partials",
    "window_rows",
    "window_scores",
    "moments",
    "layer_budgets",
    "select",
    "gather_kv",
]
# Their arguments hold no table of layers.
ANY_NUMBER_OF_LAYERS = {"elite_window", "moments", "layer_budgets"}


@pytest.fixture
def launches(backend):
    """``launches(call)`` is the list of the kernels that it launched."""
    if backend is not SIMT:
        pytest.skip("the records are read through the executor's library")
    library = ctypes.CDLL(str(SIMT_LIBRARY))
    library.simt_launches.restype = ctypes.c_char_p

    def record(call) -> list[str]:
        library.simt_record_launches(True)
        call()
        library.simt_record_launches(False)
        return [line.split()[0] for line in library.simt_launches().decode().splitlines()]

    return record


@pytest.mark.parametrize("layers", [1, 80, 128, 129])
def test_one_launch_a_stage(layers, launches):
    x = Case(prompt="one, two and three visual tokens", layers=layers).inputs()
    options = dict(visual=x.visual, valid=x.valid, capacity=x.keys[0].shape[2])

    def call():
        aircache_ext.compress_layers(x.keys, x.values, x.queries, **options)

    names = launches(call)
    assert list(dict.fromkeys(names)) == STAGES
    for name in STAGES:
        tables = 1 if name in ANY_NUMBER_OF_LAYERS else -(-layers // 128)
        assert names.count(name) == tables, name
