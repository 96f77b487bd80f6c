"""What every test shares: a backend, the instruction sets, and how long the tests may take."""

import ctypes
import os
import zlib

import hypothesis
import pytest
import torch

import aircache_ext
from aircache_ext import ops
from backends import BACKENDS, CPU, SIMT, SIMT_LIBRARY, SIMT_ORDERS, Backend

hypothesis.settings.register_profile(
    "ci", max_examples=40, deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile("full", max_examples=1000, deadline=None, derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    reduced = "not full" in config.option.markexpr
    hypothesis.settings.load_profile("ci" if reduced else "full")


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Tests on ``simt`` take turns with the orders; AIRCACHE_SIMT_ORDER is one for all of them."""
    if request.param is SIMT:
        monkeypatch.setattr(ops, "_ops", torch.ops.aircache_simt)
        turn = SIMT_ORDERS[zlib.crc32(request.node.name.encode()) % len(SIMT_ORDERS)]
        order = os.environ.get("AIRCACHE_SIMT_ORDER", turn)
        ctypes.CDLL(str(SIMT_LIBRARY)).simt_set_order(order.encode())
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Instruction sets are the CPU's, other backends run with the first alone; and the executor's
    ops have no fakes."""

    def wanted(item: pytest.Item) -> bool:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        first = aircache_ext._C.cpu_isas()[0]
        backend = params.get("backend", CPU)
        if backend is SIMT and item.get_closest_marker("registration"):
            return False
        return backend is CPU or params.get("isa", first) == first

    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(params=aircache_ext._C.cpu_isas())
def isa(request: pytest.FixtureRequest):
    """Every instruction set that this processor has, one after the other."""
    before = aircache_ext._C.cpu_isa()
    aircache_ext._C.set_cpu_isa(request.param)
    yield request.param
    aircache_ext._C.set_cpu_isa(before)


@pytest.fixture
def traffic(backend):
    """``traffic(call)`` is how many bytes of keys, values and queries it read and wrote."""
    if backend is not SIMT:
        pytest.skip("the executor counts them")
    library = ctypes.CDLL(str(SIMT_LIBRARY))
    library.simt_counts_traffic.restype = ctypes.c_bool
    if not library.simt_counts_traffic():
        pytest.skip("PTX does not tell the cache from other memory")
    library.simt_bytes_read.restype = library.simt_bytes_written.restype = ctypes.c_int64

    def count(call) -> tuple[int, int]:
        library.simt_reset_traffic()
        call()
        return library.simt_bytes_read(), library.simt_bytes_written()

    return count


@pytest.fixture(autouse=True)
def threads():
    """``threads(n)`` sets torch's thread count until the test ends.

    One unless a test asks for more: on small tensors two only wait for one another. That results do
    not depend on the count is a test of its own.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
