"""Where the ops run: the CPU, the executor of the CUDA kernels if it was built, a GPU if any."""

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch

BUILD = Path(__file__).parents[1] / "build" / sysconfig.get_config_var("SOABI")
# The CUDA kernels as ops on CPU tensors, run by the executor of tests/simt.
SIMT_LIBRARY = Path(
    os.environ.get(
        "AIRCACHE_SIMT_LIBRARY", BUILD / "tests" / "simt" / "ops" / "libaircache_simt.so"
    )
).absolute()


@dataclass(frozen=True)
class Backend:
    """Where the ops run. Inputs are made on the CPU, the same for all, and moved here."""

    name: str
    device: torch.device


CPU = Backend("cpu", torch.device("cpu"))
SIMT = Backend("simt", torch.device("cpu"))
CUDA = Backend("cuda", torch.device("cuda"))
BACKENDS = [CPU]
SIMT_ORDERS = ("forward", "reverse", "random:1")  # of the threads of a block
if SIMT_LIBRARY.exists():
    torch.ops.load_library(SIMT_LIBRARY)
    BACKENDS.append(SIMT)
if torch.cuda.is_available():
    BACKENDS.append(CUDA)
