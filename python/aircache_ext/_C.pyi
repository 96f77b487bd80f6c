"""The compiled part of aircache_ext. Importing it registers torch.ops.aircache."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

class BuildInfo(TypedDict):
    version: str
    build_type: str
    compiler: str
    torch_target: str
    cuda: bool
    cuda_architectures: list[str]
    cpu_isas_built: list[str]
    cpu_isa: str

class CudaLaunch(TypedDict):
    kernel: str
    grid: tuple[int, int, int]
    block: int
    shared_bytes: int
    registers: int
    local_bytes: int
    blocks_per_sm: int

def build_info() -> BuildInfo: ...
def cpu_isas() -> list[str]: ...
def cpu_isa() -> str: ...
def set_cpu_isa(name: str) -> None: ...
def score_bytes(
    *, layers: int, batch: int, kv_heads: int, n_visual: int, key_dim: int, element_bytes: int
) -> int: ...
def gather_bytes(
    *, kept: int, kv_heads: int, key_dim: int, value_dim: int, element_bytes: int
) -> int: ...
def record_cuda_launches(on: bool) -> None: ...
def cuda_launches() -> list[CudaLaunch]: ...
def layer_budgets(
    strength: ArrayLike,
    skewness: ArrayLike,
    n_visual: int | Sequence[int] | NDArray[np.integer],
    *,
    retention: float | None = None,
    budget: int | Sequence[int] | NDArray[np.integer] | None = None,
    cap: int | Sequence[int] | NDArray[np.integer] | None = None,
    budget_mode: str = "strength+skewness",
) -> NDArray[np.int64]: ...
