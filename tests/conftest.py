"""What every test shares: the backends, the instruction sets, and how long the tests may take."""

from dataclasses import dataclass

import hypothesis
import pytest
import torch

import aircache_ext

hypothesis.settings.register_profile(
    "ci", max_examples=40, deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile("full", max_examples=1000, deadline=None, derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    reduced = "not full" in config.option.markexpr
    hypothesis.settings.load_profile("ci" if reduced else "full")


@dataclass(frozen=True)
class Backend:
    """Where the ops run. Inputs are made on the CPU, the same for all, and moved here."""

    name: str
    device: torch.device


BACKENDS = [Backend("cpu", torch.device("cpu"))]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture(params=aircache_ext._C.cpu_isas())
def isa(request: pytest.FixtureRequest):
    """Every instruction set that this processor has, one after the other."""
    before = aircache_ext._C.cpu_isa()
    aircache_ext._C.set_cpu_isa(request.param)
    yield request.param
    aircache_ext._C.set_cpu_isa(before)


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
