"""Loads the compiled part of the package; where that fails, says why and what to do."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

OLDEST_TORCH = (2, 10)  # the stable ABI that the library is built for

_REBUILD = "Build it for this environment: `pip install --no-build-isolation .` in the source tree."


def load() -> ModuleType:
    """Imports ``aircache_ext._C``, which registers ``torch.ops.aircache``.

    Raises:
        ImportError: torch is missing or too old, or the compiled module is missing or does not fit.
    """
    torch_version = _load_torch()
    try:
        return importlib.import_module("aircache_ext._C")
    except ImportError as error:
        explanation = _explanation(error, torch_version)
        raise ImportError(explanation, name=error.name, path=error.path) from error


def _load_torch() -> str:
    """Its version. torch comes first: it resolves the symbols that the library asks for."""
    oldest = ".".join(map(str, OLDEST_TORCH))
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise  # torch is there and misses something of its own
        raise ImportError(
            f"aircache_ext needs torch >= {oldest}, and {sys.executable} has none. "
            f"Install it: `pip install 'torch>={oldest}'`.",
            name="torch",
        ) from error
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if found and tuple(map(int, found.groups())) < OLDEST_TORCH:
        raise ImportError(
            f"aircache_ext needs torch >= {oldest}, but {sys.executable} has torch "
            f"{torch.__version__}. Upgrade it: `pip install 'torch>={oldest}'`.",
            name="torch",
        )
    return str(torch.__version__)


def _explanation(error: ImportError, torch_version: str) -> str:
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if isinstance(error, ModuleNotFoundError) and error.name == "aircache_ext._C":
        others = sorted(path.name for path in Path(__file__).parent.glob("_C.*.so"))
        if others:
            return (
                f"aircache_ext is compiled for another Python: this is {python} "
                f"({sys.implementation.cache_tag}), the package has {', '.join(others)}. {_REBUILD}"
            )
        return f"aircache_ext is not compiled: it has no _C module for {python}. {_REBUILD}"
    if "libaircache_ext" in str(error) and "cannot open shared object file" in str(error):
        return (
            f"aircache_ext is incomplete: libaircache_ext.so is not beside _C. {_REBUILD} ({error})"
        )
    if "undefined symbol" in str(error):
        return (
            "aircache_ext does not fit the installed torch: its library asks for a symbol that "
            f"torch {torch_version} lacks. {_REBUILD} ({error})"
        )
    return f"aircache_ext could not load its compiled module. {_REBUILD} ({error})"
